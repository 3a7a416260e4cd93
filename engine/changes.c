/* engine/changes.c: see the header. */
#include "engine/changes.h"

#include "engine/tenant.h"

void changes_init(struct changes *changes)
{
    *changes = (struct changes){.number = 0};
    atomic_init(&changes->settled_ms, INT64_MIN);
    lock_init(&changes->lock, LOCK_LEAF);
}

void changes_release(struct changes *changes)
{
    lock_destroy(&changes->lock);
}

void changes_note(struct changes *changes, int64_t from_ms)
{
    lock_take(&changes->lock);
    bool widens = changes->number > changes->told; /* nobody can tell the two apart */
    if (!widens) changes->number++;
    int64_t *slot = &changes->from_ms[changes->number % CHANGES_MAX];
    *slot = widens ? MIN_OF(*slot, from_ms) : from_ms;
    lock_release(&changes->lock);
}

uint64_t changes_settle(struct changes *changes, int64_t until_ms)
{
    int64_t settled_ms = atomic_load(&changes->settled_ms);
    while (settled_ms < until_ms &&
           !atomic_compare_exchange_weak(&changes->settled_ms, &settled_ms, until_ms)) {}
    lock_take(&changes->lock);
    uint64_t number = changes->told = changes->number;
    lock_release(&changes->lock);
    return number;
}

int64_t changes_since(struct changes *changes, uint64_t number)
{
    int64_t from_ms = INT64_MAX;
    lock_take(&changes->lock);
    ASSERT(number <= changes->number);
    if (changes->number - number > CHANGES_MAX) {
        from_ms = INT64_MIN;
    } else {
        for (uint64_t k = number + 1; k <= changes->number; k++)
            from_ms = MIN_OF(from_ms, changes->from_ms[k % CHANGES_MAX]);
    }
    lock_release(&changes->lock);
    return from_ms;
}

/* ---- for tenants ---- */

void tenant_changed(struct tenant *t, int64_t min_ms, int64_t max_ms)
{
    (void)max_ms; /* a step may look back as far as it likes: all after the beginning counts */
    changes_note(&t->changes, min_ms);
}

uint64_t tenant_settle(struct tenant *t, int64_t until_ms)
{
    return changes_settle(&t->changes, until_ms);
}

uint64_t tenant_identity(const struct tenant *t)
{
    return t->incarnation;
}

int64_t tenant_changed_since(struct tenant *t, uint64_t number)
{
    return changes_since(&t->changes, number);
}
