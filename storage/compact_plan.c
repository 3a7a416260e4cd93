/* storage/compact_plan.c: see the header. */
#include "storage/compact_plan.h"

#include <stdlib.h>

#include "base/hash.h"

#define MINUTE_MS INT64_C(60000)
#define HOUR_MS (60 * MINUTE_MS)
#define TWO_HOURS_MS (2 * HOUR_MS)
#define DAY_MS (24 * HOUR_MS)

#define ALIKE                                                                                      \
    4 /* so many of about one size are merged; their sizes differ by this factor at most */
#define ALIKE_OPEN 8 /* in a cell that is open: it is merged again when it closes */
#define CROWD 32     /* of whatever sizes */
#define MISFITS 4    /* blocks across cells wait until there are so many */
#define LEAST_BYTES (UINT64_C(64) << 10)
#define SPLIT_BYTES (UINT64_C(32) << 20) /* so much is cut at once: an import */
#define EXTRA_BYTES (UINT64_C(16) << 20)
#define LATE_SHARE                                                                                 \
    8 /* late samples of an eighth of a block's size are merged into it after quiet_ms */
#define QUIET_MAX_MS (7 * DAY_MS)

/* Each divides the next. */
static const int64_t top_sizes_ms[] = {DAY_MS, 3 * DAY_MS, 6 * DAY_MS, 12 * DAY_MS, 24 * DAY_MS};

struct compact_limits compact_limits_default(void)
{
    return (struct compact_limits){
        .margin_ms = 45 * MINUTE_MS, .quiet_ms = 15 * MINUTE_MS, .bytes_max = UINT64_C(32) << 30};
}

/* ---- cells ---- */

static struct compact_cell cell_at(int64_t t_ms, int64_t size_ms)
{
    int64_t after = t_ms % size_ms;
    if (after < 0) after += size_ms;
    int64_t left = size_ms - 1 - after;
    return (struct compact_cell){.from_ms = t_ms < INT64_MIN + after ? INT64_MIN : t_ms - after,
                                 .to_ms = t_ms > INT64_MAX - left ? INT64_MAX : t_ms + left};
}

/* The end of the last cell that is over. */
static int64_t closed_end(int64_t t_ms, int64_t size_ms)
{
    return cell_at(t_ms, size_ms).from_ms;
}

struct compact_grid compact_grid_at(const struct compact_when *when,
                                    const struct compact_limits *limits)
{
    struct compact_grid grid = {.top_ms = DAY_MS};
    for (size_t i = 0; i < COUNT_OF(top_sizes_ms); i++)
        if (when->retention_ms <= 0 || top_sizes_ms[i] <= when->retention_ms / 10)
            grid.top_ms = top_sizes_ms[i];
    int64_t over_ms = when->now_ms - limits->margin_ms;
    grid.two_hours_end_ms = closed_end(over_ms, TWO_HOURS_MS);
    grid.day_end_ms = closed_end(over_ms, DAY_MS);
    grid.top_end_ms = closed_end(over_ms, grid.top_ms);
    if (when->level >= 1) grid.two_hours_end_ms = INT64_MAX;
    if (when->level >= 2) grid.day_end_ms = INT64_MAX;
    if (when->level >= 3) grid.top_end_ms = INT64_MAX;
    return grid;
}

struct compact_cell compact_grid_cell(const struct compact_grid *grid, int64_t t_ms)
{
    bool top = t_ms < grid->top_end_ms && grid->top_ms > DAY_MS, day = t_ms < grid->day_end_ms;
    struct compact_cell cell = cell_at(t_ms, top ? grid->top_ms : day ? DAY_MS : TWO_HOURS_MS);
    cell.level = top ? 3 : day ? 2 : 1;
    cell.closed = top || day || t_ms < grid->two_hours_end_ms;
    return cell;
}

/* Made by an earlier merge for a cell of a size that is not in use (any more) at its time: it is left as it is. */
static bool is_settled(const struct block_info *b)
{
    if (b->level == 0) return false;
    bool fits = cell_at(b->t_min_ms, TWO_HOURS_MS).to_ms >= b->t_max_ms;
    for (size_t i = 0; i < COUNT_OF(top_sizes_ms) && !fits; i++)
        fits = cell_at(b->t_min_ms, top_sizes_ms[i]).to_ms >= b->t_max_ms;
    return fits;
}

/* ---- a plan in the making ---- */

enum place { IN_CELL, ACROSS_CELLS, SETTLED };

struct item {
    const struct block_info *info;
    uint32_t idx; /* in the caller's list */
    enum place place;
    struct compact_cell cell; /* of IN_CELL */
    bool chosen;
};

struct plan {
    const struct compact_when *when;
    const struct compact_limits *limits;
    const uint64_t *refused;
    size_t n_refused;
    struct compact_grid grid;
    struct item *items; /* by place, then newest cell first, then sequence */
    size_t n;
    struct compact_job *job;
};

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    if (x->place == IN_CELL && x->cell.from_ms != y->cell.from_ms)
        return x->cell.from_ms > y->cell.from_ms ? -1 : 1;
    if (x->info->sequence != y->info->sequence)
        return x->info->sequence < y->info->sequence ? -1 : 1;
    return (x->info->t_min_ms > y->info->t_min_ms) - (x->info->t_min_ms < y->info->t_min_ms);
}

static void place_item(const struct plan *p, struct item *item)
{
    const struct block_info *b = item->info;
    item->cell = compact_grid_cell(&p->grid, b->t_min_ms);
    item->place = item->cell.to_ms >= b->t_max_ms ? IN_CELL
                  : is_settled(b)                 ? SETTLED
                                                  : ACROSS_CELLS;
}

static bool overlap(const struct block_info *a, const struct block_info *b)
{
    return a->t_min_ms <= b->t_max_ms && b->t_min_ms <= a->t_max_ms;
}

/* Those chosen so far; n COMPACT_SOURCES_MAX + 1: more than can be. */
struct choice {
    size_t n;
    const struct item *items[COMPACT_SOURCES_MAX];
    uint64_t bytes, highest; /* sequence */
};

static void choice_add(struct choice *c, const struct item *item)
{
    if (c->n < COMPACT_SOURCES_MAX) c->items[c->n] = item;
    c->n = MIN_OF(c->n + 1, (size_t)COMPACT_SOURCES_MAX + 1);
    c->bytes += item->info->file_bytes;
    c->highest = MAX_OF(c->highest, item->info->sequence);
}

/* Must `b` be merged along with what is chosen? */
static bool is_between(const struct choice *c, const struct block_info *b)
{
    if (b->sequence > c->highest) return false;
    for (size_t i = 0; i < c->n; i++) {
        const struct block_info *source = c->items[i]->info;
        if (source->sequence <= b->sequence && overlap(source, b)) return true;
    }
    return false;
}

/* Moves what is chosen to `c`, with what must come along. False: that is too much of it. */
static bool close_choice(struct plan *p, struct choice *c)
{
    *c = (struct choice){0};
    for (size_t i = 0; i < p->n; i++)
        if (p->items[i].chosen) choice_add(c, &p->items[i]);
    uint64_t bytes_max = 2 * c->bytes + EXTRA_BYTES;
    for (bool again = true; again && c->n <= COMPACT_SOURCES_MAX;) {
        again = false;
        for (size_t i = 0; i < p->n && c->n <= COMPACT_SOURCES_MAX; i++) {
            if (p->items[i].chosen || !is_between(c, p->items[i].info)) continue;
            p->items[i].chosen = again = true;
            choice_add(c, &p->items[i]);
        }
    }
    for (size_t i = 0; i < p->n; i++) p->items[i].chosen = false;
    return c->n > 0 && c->n <= COMPACT_SOURCES_MAX && c->bytes <= bytes_max;
}

static int compare_sources(const void *a, const void *b)
{
    const struct item *x = *(const struct item *const *)a, *y = *(const struct item *const *)b;
    if (x->info->sequence != y->info->sequence)
        return x->info->sequence < y->info->sequence ? -1 : 1;
    return (x->info->t_min_ms > y->info->t_min_ms) - (x->info->t_min_ms < y->info->t_min_ms);
}

static uint64_t job_id(const struct item *const *sources, size_t n)
{
    char text[COMPACT_SOURCES_MAX * ULID_CHARS];
    for (size_t i = 0; i < n; i++)
        memcpy(text + i * ULID_CHARS, sources[i]->info->ulid.text, ULID_CHARS);
    return hash_xxh3(text, n * ULID_CHARS);
}

/* The chosen as the job, unless it is refused. Chooses nothing afterwards. */
static bool take_choice(struct plan *p)
{
    struct choice c;
    if (!close_choice(p, &c)) return false;
    qsort(c.items, c.n, sizeof(c.items[0]), compare_sources);
    uint64_t id = job_id(c.items, c.n);
    for (size_t i = 0; i < p->n_refused; i++)
        if (p->refused[i] == id) return false;
    *p->job = (struct compact_job){.n = c.n, .sequence = c.highest, .id = id, .grid = p->grid};
    for (size_t i = 0; i < c.n; i++) p->job->sources[i] = c.items[i]->idx;
    return true;
}

/* Chooses items [from, to) in order, as many as one merge takes. How many those are. */
static size_t choose(struct plan *p, size_t from, size_t to)
{
    uint64_t bytes = 0;
    size_t n = 0;
    for (size_t i = from; i < to && n < COMPACT_SOURCES_MAX; i++) {
        bytes += p->items[i].info->file_bytes;
        if (p->limits->bytes_max && bytes > p->limits->bytes_max && n > 0) break;
        p->items[i].chosen = true;
        n++;
    }
    return n;
}

/* ---- blocks across cells ---- */

static bool misfits_due(const struct plan *p, size_t from, size_t to)
{
    int64_t newest_ms = INT64_MIN, oldest_ms = INT64_MAX, now_ms = p->when->now_ms;
    uint64_t bytes = 0;
    for (size_t i = from; i < to; i++) {
        const struct block_info *b = p->items[i].info;
        newest_ms = MAX_OF(newest_ms, b->created_ms);
        oldest_ms = MIN_OF(oldest_ms, b->created_ms);
        bytes += b->file_bytes;
    }
    return p->when->eager || to - from >= MISFITS || bytes >= SPLIT_BYTES ||
           newest_ms <= now_ms - p->limits->quiet_ms ||
           oldest_ms <= now_ms - 4 * p->limits->quiet_ms;
}

static bool plan_misfits(struct plan *p)
{
    size_t from = 0, to;
    while (from < p->n && p->items[from].place != ACROSS_CELLS) from++;
    for (to = from; to < p->n && p->items[to].place == ACROSS_CELLS;) to++;
    if (from == to || !misfits_due(p, from, to)) return false;
    (void)choose(p, from, to);
    if (take_choice(p)) return true;
    /* Alone each may be cut whatever lies between. */
    for (size_t i = from; i < to; i++) {
        p->items[i].chosen = true;
        if (take_choice(p)) return true;
    }
    return false;
}

/* ---- blocks within a cell ---- */

static uint64_t size_of(const struct item *item)
{
    return MAX_OF(item->info->file_bytes, LEAST_BYTES); /* the tiny ones are all of one size */
}

/* The smallest size above `size` of the items [from, to); UINT64_MAX: none. */
static uint64_t next_size(const struct plan *p, size_t from, size_t to, uint64_t size)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = from; i < to; i++) {
        uint64_t s = size_of(&p->items[i]);
        if (s > size) next = MIN_OF(next, s);
    }
    return next;
}

/* Chooses those of about that size. How many they are. */
static size_t choose_alike(struct plan *p, size_t from, size_t to, uint64_t size)
{
    uint64_t bytes = 0;
    size_t n = 0;
    for (size_t i = from; i < to && n < COMPACT_SOURCES_MAX; i++) {
        uint64_t s = size_of(&p->items[i]);
        if (s < size || s / ALIKE > size) continue;
        bytes += s;
        if (p->limits->bytes_max && bytes > p->limits->bytes_max) break;
        p->items[i].chosen = true;
        n++;
    }
    return n;
}

/* Enough of one size; the smallest such size. */
static bool plan_alike(struct plan *p, size_t from, size_t to)
{
    size_t enough = p->items[from].cell.closed ? ALIKE : ALIKE_OPEN;
    if (to - from < enough) return false;
    for (uint64_t size = next_size(p, from, to, 0); size != UINT64_MAX;
         size = next_size(p, from, to, size)) {
        if (choose_alike(p, from, to, size) >= enough && take_choice(p)) return true;
        for (size_t i = from; i < to; i++) p->items[i].chosen = false;
    }
    return false;
}

/* How long no block must have come until the cell is merged whole; INT64_MAX: there is nothing to merge. */
static int64_t quiet_needed(const struct plan *p, size_t from, size_t to)
{
    uint32_t level = p->items[from].cell.level;
    uint64_t merged = 0,
             rest = 0; /* bytes of the largest block that is what it should be; of all others */
    for (size_t i = from; i < to; i++) {
        const struct block_info *b = p->items[i].info;
        uint64_t bytes = MAX_OF(b->file_bytes, (uint64_t)1);
        bool is_more = b->level >= level && bytes > merged;
        rest += is_more ? merged : bytes;
        if (is_more) merged = bytes;
    }
    /* A lone block of the head is not worth the writing for two hours, for a day it is: it gets smaller. */
    if (rest == 0 || (to - from == 1 && level == 1)) return INT64_MAX;
    if (p->when->eager) return 0;
    double times = (double)merged / (double)rest / LATE_SHARE;
    double quiet_ms = (double)p->limits->quiet_ms * MAX_OF(times, 1.0);
    return quiet_ms < (double)QUIET_MAX_MS ? (int64_t)quiet_ms : QUIET_MAX_MS;
}

static bool plan_whole(struct plan *p, size_t from, size_t to)
{
    if (!p->items[from].cell.closed) return false;
    int64_t quiet_ms = quiet_needed(p, from, to), newest_ms = INT64_MIN;
    if (quiet_ms == INT64_MAX) return false;
    for (size_t i = from; i < to; i++) newest_ms = MAX_OF(newest_ms, p->items[i].info->created_ms);
    bool due = p->when->eager || newest_ms <= p->when->now_ms - quiet_ms || to - from >= CROWD;
    if (!due) return false;
    bool lone = to - from == 1;
    if (choose(p, from, to) >= 2 || lone) return take_choice(p);
    p->items[from].chosen = false;
    return false;
}

static bool plan_cells(struct plan *p, uint32_t level)
{
    for (size_t from = 0, to; from < p->n && p->items[from].place == IN_CELL; from = to) {
        const struct compact_cell *cell = &p->items[from].cell;
        to = from + 1;
        while (to < p->n && p->items[to].place == IN_CELL &&
               p->items[to].cell.from_ms == cell->from_ms)
            to++;
        if (cell->level != level) continue;
        if (plan_whole(p, from, to) || plan_alike(p, from, to)) return true;
    }
    return false;
}

enum err_code compact_plan(const struct block_info *const *blocks, size_t n,
                           const struct compact_when *when, const struct compact_limits *limits,
                           const uint64_t *refused, size_t n_refused, struct compact_job *job,
                           struct err *err)
{
    struct plan p = {.when = when,
                     .limits = limits,
                     .refused = refused,
                     .n_refused = n_refused,
                     .grid = compact_grid_at(when, limits),
                     .job = job};
    job->n = 0;
    if (n == 0) return ERR_OK;
    p.items = mem_calloc(MEM_STORAGE, n, sizeof(*p.items));
    if (!p.items) return err_set(err, ERR_NO_MEMORY, "no memory to plan for %zu blocks", n);
    for (size_t i = 0; i < n; i++) {
        if (when->sequence_max && blocks[i]->sequence > when->sequence_max) continue;
        struct item *item = &p.items[p.n++];
        item->info = blocks[i];
        item->idx = (uint32_t)i;
        place_item(&p, item);
    }
    qsort(p.items, p.n, sizeof(*p.items), compare_items);
    bool found = plan_misfits(&p);
    for (uint32_t level = 1; level <= COMPACT_LEVEL_MAX && !found; level++)
        found = plan_cells(&p, level);
    mem_free(p.items);
    return ERR_OK;
}
