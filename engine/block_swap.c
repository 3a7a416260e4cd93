/* engine/block_swap.c: blocks of a tenant replaced by others: in the catalog in one transaction, then in a new view.
 * Before the transaction commits everything is as it was; after it a start finds the new ones. The files of what
 * was replaced go when the last reader's view does, or, after a crash, at the next start. */
#include "engine/engine_private.h"

/* ---- a commit of which nobody knows ---- */

/* A failed commit may have reached the disk all the same: the files stay until it is known, by a restart, or by a
 * later change that succeeds, for then the earlier one was undone. */
void tenant_doubt_blocks(struct tenant *t, const struct block_info *infos, size_t n)
{
    struct err ignored; /* without memory the files stay until somebody looks */
    void *items = t->doubtful;
    if (mem_grow(MEM_HEAD, &items, &t->doubtful_cap, t->n_doubtful + n, sizeof(*t->doubtful),
                 &ignored) == ERR_OK)
        for (size_t i = 0; i < n; i++) ((struct ulid *)items)[t->n_doubtful++] = infos[i].ulid;
    t->doubtful = items;
}

static void remove_doubtful(struct tenant *t)
{
    for (size_t i = 0; i < t->n_doubtful; i++) {
        char path[IO_PATH_BYTES];
        struct err ignored; /* a stray file costs space, no more */
        if (tenant_block_path(t, t->doubtful[i].text, path, sizeof(path), &ignored) == ERR_OK)
            err_ignore(io_unlink(t->engine->env.io, path, &ignored));
    }
    t->n_doubtful = 0;
}

enum err_code tenant_check_catalog(struct tenant *t, struct err *err)
{
    if (t->n_doubtful == 0) return ERR_OK;
    struct catalog_change nothing = {.incarnation = t->incarnation};
    enum err_code rc = catalog_apply(t->engine->catalog, &nothing, err);
    if (!rc) remove_doubtful(t);
    return rc;
}

/* ---- the swap ---- */

static bool in_view(const struct view *view, const struct ulid *ulid)
{
    for (size_t i = 0; i < view->n_blocks; i++)
        if (strcmp(block_info(view->blocks[i])->ulid.text, ulid->text) == 0) return true;
    return false;
}

static void drop_files(const struct view *before, const struct ulid *ulids, size_t n)
{
    for (size_t i = 0; i < before->n_blocks; i++)
        for (size_t k = 0; k < n; k++)
            if (strcmp(block_info(before->blocks[i])->ulid.text, ulids[k].text) == 0)
                block_drop_file(before->blocks[i]);
}

enum err_code tenant_swap_blocks(struct tenant *t, const struct block_swap *swap, bool *in_doubt,
                                 struct err *err)
{
    const struct view *before = t->views.newest; /* under the flush lock nobody replaces it */
    struct view_change change = {.add = swap->add,
                                 .n_add = swap->n_add,
                                 .remove = swap->remove,
                                 .n_remove = swap->n_remove,
                                 .flushed_gen = before->flushed_gen};
    struct catalog_change row = {.incarnation = t->incarnation,
                                 .add = swap->infos,
                                 .n_add = swap->n_add,
                                 .remove = swap->remove,
                                 .n_remove = swap->n_remove};
    struct view *view;
    *in_doubt = false;
    for (size_t i = 0; i < swap->n_remove; i++)
        if (!in_view(before, &swap->remove[i]))
            return err_set(err, ERR_NOT_FOUND, "block %s is gone", swap->remove[i].text);
    enum err_code rc = tenant_check_catalog(t, err);
    if (!rc) rc = views_prepare(&t->views, &change, &view, err);
    if (rc) return rc;
    rc = catalog_apply(t->engine->catalog, &row, err);
    if (rc) {
        views_discard(view, &change);
        *in_doubt = true;
        tenant_doubt_blocks(t, swap->infos, swap->n_add);
        return rc;
    }
    drop_files(before, swap->remove, swap->n_remove);
    views_publish(&t->views, view);
    tenant_forget_damage(t, swap->remove, swap->n_remove);
    return ERR_OK;
}
