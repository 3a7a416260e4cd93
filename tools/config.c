/* tools/config.c: settings from YAML (libyaml's event parser) and from flags. */
#include "tools/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <yaml.h>

#include "engine/engine.h"
#include "query/blocked.h"

/* ---- values ---- */

/* A run of digits as a number; false on overflow or none. */
static bool take_number(struct str *s, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = 0;
    for (; n < s->len && s->p[n] >= '0' && s->p[n] <= '9'; n++) {
        if (v > (UINT64_MAX - 9) / 10) return false;
        v = v * 10 + (uint64_t)(s->p[n] - '0');
    }
    s->p += n;
    s->len -= n;
    *out = v;
    return n > 0;
}

static struct str take_letters(struct str *s)
{
    struct str word = {s->p, 0};
    while (word.len < s->len && ((s->p[word.len] >= 'a' && s->p[word.len] <= 'z') ||
                                 (s->p[word.len] >= 'A' && s->p[word.len] <= 'Z')))
        word.len++;
    s->p += word.len;
    s->len -= word.len;
    return word;
}

enum err_code config_parse_duration(struct str text, int64_t *ms, struct err *err)
{
    static const struct {
        struct str unit;
        uint64_t ms;
    } units[] = {{{"y", 1}, UINT64_C(31536000000)},
                 {{"w", 1}, 604800000},
                 {{"d", 1}, 86400000},
                 {{"h", 1}, 3600000},
                 {{"m", 1}, 60000},
                 {{"s", 1}, 1000},
                 {{"ms", 2}, 1}};
    if (str_eq(text, STR("0"))) {
        *ms = 0;
        return ERR_OK;
    }
    uint64_t sum = 0;
    size_t next = 0; /* units must come in descending order, each once */
    struct str s = text;
    do {
        uint64_t n;
        if (!take_number(&s, &n)) goto bad;
        struct str unit = take_letters(&s);
        while (next < COUNT_OF(units) && !str_eq(unit, units[next].unit)) next++;
        if (next == COUNT_OF(units)) goto bad;
        if (n > (uint64_t)INT64_MAX / units[next].ms) goto bad;
        sum += n * units[next++].ms;
        if (sum > (uint64_t)INT64_MAX) goto bad;
    } while (s.len);
    *ms = (int64_t)sum;
    return ERR_OK;
bad:
    return err_set(err, ERR_INVALID, "'%.*s' is not a duration such as 90s, 1h30m or 30d",
                   STR_ARG(text));
}

enum err_code config_parse_size(struct str text, uint64_t *bytes, struct err *err)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"", 1},
                 {"B", 1},
                 {"KiB", 1024},
                 {"MiB", 1048576},
                 {"GiB", 1073741824},
                 {"TiB", UINT64_C(1099511627776)},
                 {"KB", 1000},
                 {"kB", 1000},
                 {"MB", 1000000},
                 {"GB", 1000000000},
                 {"TB", UINT64_C(1000000000000)}};
    struct str s = text;
    uint64_t n;
    if (take_number(&s, &n)) {
        struct str unit = take_letters(&s);
        for (size_t i = 0; i < COUNT_OF(units) && s.len == 0; i++) {
            if (!str_eq(unit, str_of(units[i].unit)) || n > UINT64_MAX / units[i].bytes) continue;
            *bytes = n * units[i].bytes;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_INVALID, "'%.*s' is not a size such as 64MiB or 1GB", STR_ARG(text));
}

static enum err_code parse_count(struct str text, uint64_t *out, struct err *err)
{
    struct str s = text;
    if (take_number(&s, out) && s.len == 0) return ERR_OK;
    return err_set(err, ERR_INVALID, "'%.*s' is not a whole number", STR_ARG(text));
}

static enum err_code parse_word(const char *words, struct str text, uint64_t *out, struct err *err)
{
    uint64_t i = 0;
    for (const char *p = words;; i++) {
        struct str word = {p, strcspn(p, " ")};
        if (str_eq(word, text)) {
            *out = i;
            return ERR_OK;
        }
        if (p[word.len] == 0) break;
        p += word.len + 1;
    }
    return err_set(err, ERR_INVALID, "'%.*s' is none of: %s", STR_ARG(text), words);
}

static enum err_code set_text(struct config *config, const struct config_key *key, struct str text,
                              struct err *err)
{
    if (text.len < key->min || text.len > key->max || memchr(text.p, 0, text.len))
        return err_set(err, ERR_INVALID, "must be text of %" PRIu64 " to %" PRIu64 " bytes",
                       key->min, key->max);
    char *at = (char *)config + key->offset;
    memcpy(at, text.p, text.len);
    at[text.len] = 0;
    return ERR_OK;
}

enum err_code config_set(struct config *config, const struct config_key *key, struct str text,
                         struct err *err)
{
    enum err_code rc = ERR_OK;
    uint64_t v = 0;
    int64_t ms = 0;
    if (str_eq(text, STR("auto")) && config_is_auto(key, CONFIG_AUTO)) {
        v = CONFIG_AUTO;
        memcpy((char *)config + key->offset, &v, sizeof(v));
        return ERR_OK;
    }
    switch (key->type) {
    case CONFIG_TEXT: return set_text(config, key, text, err);
    case CONFIG_DURATION:
        rc = config_parse_duration(text, &ms, err);
        v = (uint64_t)ms;
        break;
    case CONFIG_SIZE: rc = config_parse_size(text, &v, err); break;
    case CONFIG_COUNT: rc = parse_count(text, &v, err); break;
    case CONFIG_BOOL: rc = parse_word("false true", text, &v, err); break;
    case CONFIG_CHOICE: rc = parse_word(key->words, text, &v, err); break;
    }
    if (rc) return rc;
    bool bounded = key->type != CONFIG_CHOICE && key->type != CONFIG_BOOL;
    if (bounded && (v < key->min || v > key->max)) {
        struct config bound;
        char min[64], max[64];
        memcpy((char *)&bound + key->offset, &key->min, sizeof(v));
        config_print(&bound, key, min, sizeof(min));
        memcpy((char *)&bound + key->offset, &key->max, sizeof(v));
        config_print(&bound, key, max, sizeof(max));
        return err_set(err, ERR_INVALID, "'%.*s' is not within %s to %s", STR_ARG(text), min, max);
    }
    memcpy((char *)config + key->offset, &v, sizeof(v));
    return ERR_OK;
}

void config_defaults(struct config *config, struct config_origin *origin)
{
    memset(config, 0, sizeof(*config));
    memset(origin, 0, sizeof(*origin));
    for (size_t i = 0; config_key_at(i); i++) {
        struct err err;
        enum err_code rc =
            config_set(config, config_key_at(i), str_of(config_key_at(i)->def), &err);
        ASSERT(rc == ERR_OK);
    }
}

void config_release(struct config *config)
{
    mem_free(config->tenants);
    config->tenants = NULL;
    config->n_tenants = config->tenants_cap = 0;
    mem_free(config->blocked);
    config->blocked = NULL;
    config->n_blocked = config->blocked_cap = 0;
}

bool config_same_blocked(const struct config *a, const struct config *b)
{
    if (a->n_blocked != b->n_blocked) return false;
    for (size_t i = 0; i < a->n_blocked; i++) {
        const struct config_blocked *x = &a->blocked[i], *y = &b->blocked[i];
        if (strcmp(x->pattern, y->pattern) != 0 || strcmp(x->reason, y->reason) != 0 ||
            strcmp(x->tenant, y->tenant) != 0)
            return false;
    }
    return true;
}

bool config_same_tenants(const struct config *a, const struct config *b)
{
    if (a->n_tenants != b->n_tenants) return false;
    for (size_t i = 0; i < a->n_tenants; i++) {
        const struct config_tenant *x = &a->tenants[i], *y = &b->tenants[i];
        if (strcmp(x->name, y->name) != 0 || x->has_retention != y->has_retention ||
            x->has_retention_bytes != y->has_retention_bytes ||
            x->retention_ms != y->retention_ms || x->retention_bytes != y->retention_bytes)
            return false;
        for (size_t k = 0; k < CONFIG_TENANT_KEYS_MAX; k++)
            if (x->has_own[k] != y->has_own[k] || x->own[k] != y->own[k]) return false;
    }
    return true;
}

bool config_tenant_apply(const struct config *config, struct str name, struct config *out)
{
    const struct config_tenant *t = NULL;
    bool any = false;
    for (size_t i = 0; i < config->n_tenants && !t; i++)
        if (str_eq(str_of(config->tenants[i].name), name)) t = &config->tenants[i];
    for (size_t k = 0; t && config_tenant_key_at(k); k++) {
        if (!t->has_own[k]) continue;
        memcpy((char *)out + config_tenant_key_at(k)->offset, &t->own[k], sizeof(t->own[k]));
        any = true;
    }
    return any;
}

static size_t key_index(const struct config_key *key)
{
    return (size_t)(key - config_key_at(0));
}

static enum err_code unknown_key(struct str name, const char *what, struct err *err)
{
    const char *nearest = config_key_nearest(name);
    if (nearest)
        return err_set(err, ERR_INVALID, "unknown %s '%.*s'; did you mean '%s'?", what,
                       STR_ARG(name), nearest);
    return err_set(err, ERR_INVALID, "unknown %s '%.*s'", what, STR_ARG(name));
}

/* ---- YAML ---- */

#define DEPTH_MAX 3

struct yaml_reader {
    yaml_parser_t parser;
    struct config *config;
    struct config_origin *origin;
    const char *name;
    char path[DEPTH_MAX][128]; /* "", "query.", … */
};

static unsigned line_of(yaml_mark_t mark)
{
    return (unsigned)mark.line + 1;
}

static enum err_code at_line(const struct yaml_reader *r, yaml_mark_t mark, struct err *err)
{
    return err_context(err, "%s:%u", r->name, line_of(mark));
}

static enum err_code next_event(struct yaml_reader *r, yaml_event_t *event, struct err *err)
{
    if (yaml_parser_parse(&r->parser, event)) return ERR_OK;
    if (r->parser.error == YAML_MEMORY_ERROR)
        return err_set(err, ERR_NO_MEMORY, "%s: out of memory", r->name);
    return err_set(err, ERR_INVALID, "%s:%u: %s", r->name, line_of(r->parser.problem_mark),
                   r->parser.problem ? r->parser.problem : "not YAML");
}

static enum err_code set_from_file(struct yaml_reader *r, struct str name, struct str value,
                                   yaml_mark_t mark, struct err *err)
{
    const struct config_key *key = config_key_find(name);
    if (!key) {
        (void)unknown_key(name, "key", err);
        return at_line(r, mark, err);
    }
    uint32_t *first = &r->origin->line[key_index(key)];
    if (*first) {
        err_set(err, ERR_INVALID, "'%s' is set twice; the first time in line %u", key->name,
                *first);
        return at_line(r, mark, err);
    }
    *first = line_of(mark);
    struct config ignored = *r->config; /* a flag wins, but the file must be right all the same */
    uint8_t *source = &r->origin->source[key_index(key)];
    enum err_code rc = config_set(*source == CONFIG_FLAG ? &ignored : r->config, key, value, err);
    if (rc) {
        err_context(err, "%s", key->name);
        return at_line(r, mark, err);
    }
    if (*source != CONFIG_FLAG) *source = CONFIG_FILE;
    return ERR_OK;
}

static struct str scalar_of(const yaml_event_t *event)
{
    return (struct str){(const char *)event->data.scalar.value, event->data.scalar.length};
}

/* ---- the section of tenants: name, then what is different for it ---- */

static enum err_code set_of_tenant(struct yaml_reader *r, struct config_tenant *tenant,
                                   struct str name, struct str value, yaml_mark_t mark,
                                   struct err *err)
{
    struct config scratch; /* the key's own type and bounds */
    size_t k = 0;
    while (config_tenant_key_at(k) && !str_eq(name, str_of(config_tenant_key_at(k)->name))) k++;
    bool *has = str_eq(name, STR("retention"))        ? &tenant->has_retention
                : str_eq(name, STR("retention_size")) ? &tenant->has_retention_bytes
                : config_tenant_key_at(k)             ? &tenant->has_own[k]
                                                      : NULL;
    enum err_code rc = ERR_OK;
    if (!has)
        rc = err_set(err, ERR_INVALID, "'%.*s' cannot be set for one tenant", STR_ARG(name));
    else if (*has)
        rc = err_set(err, ERR_INVALID, "'%.*s' is set twice", STR_ARG(name));
    if (!rc) rc = config_set(&scratch, config_key_find(name), value, err);
    if (rc) {
        err_context(err, "tenant %s", tenant->name);
        return at_line(r, mark, err);
    }
    *has = true;
    if (has == &tenant->has_retention)
        tenant->retention_ms = scratch.retention_ms;
    else if (has != &tenant->has_retention_bytes)
        memcpy(&tenant->own[k], (char *)&scratch + config_tenant_key_at(k)->offset,
               sizeof(tenant->own[k]));
    else
        tenant->retention_bytes = scratch.retention_bytes;
    return ERR_OK;
}

static enum err_code read_tenant(struct yaml_reader *r, struct config_tenant *tenant,
                                 struct str section, struct err *err);

static enum err_code read_of_tenant(struct yaml_reader *r, struct config_tenant *tenant,
                                    struct str section, const yaml_event_t *key, struct err *err)
{
    yaml_event_t value;
    char name[128];
    enum err_code rc = next_event(r, &value, err);
    if (rc) return rc;
    bool plain = value.type == YAML_SCALAR_EVENT;
    int n = snprintf(name, sizeof(name), "%.*s%.*s%s", STR_ARG(section), STR_ARG(scalar_of(key)),
                     plain ? "" : ".");
    if (n < 0 || (size_t)n >= sizeof(name)) {
        err_set(err, ERR_INVALID, "key of more than %zu bytes", sizeof(name) - 2);
        rc = at_line(r, key->start_mark, err);
    } else if (plain) {
        rc = set_of_tenant(r, tenant, str_of(name), scalar_of(&value), key->start_mark, err);
    } else if (value.type == YAML_MAPPING_START_EVENT && !section.len) {
        rc = read_tenant(r, tenant, str_of(name), err);
    } else {
        err_set(err, ERR_INVALID, "'%.*s' must have a plain value", STR_ARG(scalar_of(key)));
        rc = at_line(r, key->start_mark, err);
    }
    yaml_event_delete(&value);
    return rc;
}

/* After the event that opened the tenant's mapping, or one of a section in it: "query." */
static enum err_code read_tenant(struct yaml_reader *r, struct config_tenant *tenant,
                                 struct str section, struct err *err)
{
    for (;;) {
        yaml_event_t key;
        enum err_code rc = next_event(r, &key, err);
        if (rc) return rc;
        bool end = key.type == YAML_MAPPING_END_EVENT;
        if (!end && key.type != YAML_SCALAR_EVENT) {
            err_set(err, ERR_INVALID, "a key must be a plain word");
            rc = at_line(r, key.start_mark, err);
        } else if (!end) {
            rc = read_of_tenant(r, tenant, section, &key, err);
        }
        yaml_event_delete(&key);
        if (rc || end) return rc;
    }
}

static enum err_code add_tenant(struct yaml_reader *r, struct str name, yaml_mark_t mark,
                                struct config_tenant **out, struct err *err)
{
    struct config *c = r->config;
    enum err_code rc = tenant_name_check(name, err);
    for (size_t i = 0; !rc && i < c->n_tenants; i++)
        if (str_eq(str_of(c->tenants[i].name), name))
            rc = err_set(err, ERR_INVALID, "tenant %.*s stands twice", STR_ARG(name));
    if (!rc && c->n_tenants == CONFIG_TENANTS_MAX)
        rc = err_set(err, ERR_INVALID, "more than %d tenants", CONFIG_TENANTS_MAX);
    void *items = c->tenants;
    if (!rc)
        rc = mem_grow(MEM_TOOLS, &items, &c->tenants_cap, c->n_tenants + 1, sizeof(*c->tenants),
                      err);
    c->tenants = items;
    if (rc) return at_line(r, mark, err);
    *out = &c->tenants[c->n_tenants++];
    **out = (struct config_tenant){0};
    memcpy((*out)->name, name.p, name.len);
    return ERR_OK;
}

static enum err_code read_tenants(struct yaml_reader *r, struct err *err)
{
    for (;;) {
        yaml_event_t name, opening;
        enum err_code rc = next_event(r, &name, err);
        if (rc) return rc;
        bool end = name.type == YAML_MAPPING_END_EVENT;
        struct config_tenant *tenant = NULL;
        if (!end && name.type == YAML_SCALAR_EVENT) {
            rc = add_tenant(r, scalar_of(&name), name.start_mark, &tenant, err);
        } else if (!end) {
            err_set(err, ERR_INVALID, "a tenant's name must be a plain word");
            rc = at_line(r, name.start_mark, err);
        }
        if (!rc && !end) rc = next_event(r, &opening, err);
        if (!rc && !end) {
            bool mapping = opening.type == YAML_MAPPING_START_EVENT;
            yaml_event_delete(&opening);
            if (mapping) {
                rc = read_tenant(r, tenant, STR(""), err);
            } else {
                err_set(err, ERR_INVALID, "expected `retention: …` below tenant %s", tenant->name);
                rc = at_line(r, name.start_mark, err);
            }
        }
        yaml_event_delete(&name);
        if (rc || end) return rc;
    }
}

/* ---- the list of blocked queries ---- */

static enum err_code set_blocked(struct yaml_reader *r, struct config_blocked *b, struct str name,
                                 struct str value, yaml_mark_t mark, struct err *err)
{
    const struct {
        struct str name;
        char *at;
        size_t size;
    } fields[] = {{STR("pattern"), b->pattern, sizeof(b->pattern)},
                  {STR("reason"), b->reason, sizeof(b->reason)},
                  {STR("tenant"), b->tenant, sizeof(b->tenant)}};
    enum err_code rc = ERR_OK;
    size_t i = 0;
    while (i < COUNT_OF(fields) && !str_eq(name, fields[i].name)) i++;
    if (i == COUNT_OF(fields))
        rc = err_set(err, ERR_INVALID, "'%.*s' is none of pattern, reason, tenant", STR_ARG(name));
    else if (value.len >= fields[i].size || memchr(value.p, 0, value.len))
        rc = err_set(err, ERR_INVALID, "%s must be text of at most %zu bytes", fields[i].name.p,
                     fields[i].size - 1);
    else if (i == 0)
        rc = blocked_check(value, err);
    else if (i == 2)
        rc = tenant_name_check(value, err);
    if (rc) {
        err_context(err, "query.blocked");
        return at_line(r, mark, err);
    }
    memcpy(fields[i].at, value.p, value.len);
    fields[i].at[value.len] = 0;
    return ERR_OK;
}

/* After the event that opened the mapping of one entry. */
static enum err_code read_blocked(struct yaml_reader *r, struct config_blocked *b, yaml_mark_t mark,
                                  struct err *err)
{
    for (;;) {
        yaml_event_t key, value;
        enum err_code rc = next_event(r, &key, err);
        if (rc) return rc;
        bool end = key.type == YAML_MAPPING_END_EVENT, got = false;
        if (!end) {
            rc = next_event(r, &value, err);
            got = !rc;
        }
        if (got && (key.type != YAML_SCALAR_EVENT || value.type != YAML_SCALAR_EVENT)) {
            err_set(err, ERR_INVALID, "query.blocked: expected `pattern: …`, `reason: …`");
            rc = at_line(r, key.start_mark, err);
        } else if (got) {
            rc = set_blocked(r, b, scalar_of(&key), scalar_of(&value), key.start_mark, err);
        }
        if (got) yaml_event_delete(&value);
        yaml_event_delete(&key);
        if (!rc && end && !b->pattern[0]) {
            err_set(err, ERR_INVALID, "query.blocked: an entry needs a pattern");
            rc = at_line(r, mark, err);
        }
        if (rc || end) return rc;
    }
}

/* After the event that opened the list. */
static enum err_code read_blocked_list(struct yaml_reader *r, struct err *err)
{
    struct config *c = r->config;
    for (;;) {
        yaml_event_t item;
        enum err_code rc = next_event(r, &item, err);
        if (rc) return rc;
        bool end = item.type == YAML_SEQUENCE_END_EVENT;
        void *items = c->blocked;
        if (!end && item.type != YAML_MAPPING_START_EVENT)
            rc = err_set(err, ERR_INVALID, "query.blocked: expected a list of {pattern, reason}");
        else if (!end && c->n_blocked == BLOCKED_QUERIES_MAX)
            rc = err_set(err, ERR_INVALID, "query.blocked: more than %d", BLOCKED_QUERIES_MAX);
        else if (!end)
            rc = mem_grow(MEM_TOOLS, &items, &c->blocked_cap, c->n_blocked + 1, sizeof(*c->blocked),
                          err);
        c->blocked = items;
        yaml_mark_t mark = item.start_mark;
        yaml_event_delete(&item);
        if (rc) return at_line(r, mark, err);
        if (end) return ERR_OK;
        struct config_blocked *b = &c->blocked[c->n_blocked++];
        *b = (struct config_blocked){.pattern = ""};
        rc = read_blocked(r, b, mark, err);
        if (rc) return rc;
    }
}

/* ---- all other keys ---- */

static enum err_code read_mapping(struct yaml_reader *r, size_t depth, struct err *err);

static enum err_code read_value(struct yaml_reader *r, size_t depth, struct str key,
                                yaml_mark_t mark, struct err *err)
{
    char name[128];
    int n = snprintf(name, sizeof(name), "%s%.*s", r->path[depth], STR_ARG(key));
    if (n < 0 || (size_t)n >= sizeof(name) - 1) {
        err_set(err, ERR_INVALID, "key of more than %zu bytes", sizeof(name) - 2);
        return at_line(r, mark, err);
    }
    yaml_event_t event;
    enum err_code rc = next_event(r, &event, err);
    if (rc) return rc;
    if (event.type == YAML_MAPPING_START_EVENT && strcmp(name, "tenants") == 0) {
        rc = read_tenants(r, err);
    } else if (event.type == YAML_SEQUENCE_START_EVENT && strcmp(name, "query.blocked") == 0) {
        rc = read_blocked_list(r, err);
    } else if (event.type == YAML_SCALAR_EVENT) {
        rc = set_from_file(r, str_of(name), scalar_of(&event), mark, err);
    } else if (event.type == YAML_MAPPING_START_EVENT && depth + 1 < DEPTH_MAX) {
        snprintf(r->path[depth + 1], sizeof(r->path[0]), "%.126s.", name);
        rc = read_mapping(r, depth + 1, err);
    } else {
        err_set(err, ERR_INVALID, "'%s' must have a plain value", name);
        rc = at_line(r, mark, err);
    }
    yaml_event_delete(&event);
    return rc;
}

/* After the event that opened it, up to the one that closes it. */
static enum err_code read_mapping(struct yaml_reader *r, size_t depth, struct err *err)
{
    for (;;) {
        yaml_event_t event;
        enum err_code rc = next_event(r, &event, err);
        if (rc) return rc;
        bool end = event.type == YAML_MAPPING_END_EVENT;
        if (event.type == YAML_SCALAR_EVENT) {
            rc = read_value(r, depth, scalar_of(&event), event.start_mark, err);
        } else if (!end) {
            err_set(err, ERR_INVALID, "a key must be a plain word");
            rc = at_line(r, event.start_mark, err);
        }
        yaml_event_delete(&event);
        if (rc || end) return rc;
    }
}

/* One document with one mapping, or nothing at all. */
static enum err_code read_stream(struct yaml_reader *r, struct err *err)
{
    size_t n_documents = 0;
    for (;;) {
        yaml_event_t event;
        enum err_code rc = next_event(r, &event, err);
        if (rc) return rc;
        yaml_event_type_t type = event.type;
        yaml_mark_t mark = event.start_mark;
        bool empty = type == YAML_SCALAR_EVENT && event.data.scalar.length == 0;
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT) return ERR_OK;
        if (type == YAML_DOCUMENT_START_EVENT && n_documents++) {
            err_set(err, ERR_INVALID, "only one document is allowed");
            return at_line(r, mark, err);
        }
        if (type == YAML_MAPPING_START_EVENT) {
            rc = read_mapping(r, 0, err);
            if (rc) return rc;
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT &&
                   type != YAML_DOCUMENT_END_EVENT && !empty) {
            err_set(err, ERR_INVALID, "expected lines of the form `key: value`");
            return at_line(r, mark, err);
        }
    }
}

enum err_code config_parse(struct config *config, struct config_origin *origin, struct bytes text,
                           const char *name, struct err *err)
{
    struct yaml_reader r = {.config = config, .origin = origin, .name = name};
    if (!yaml_parser_initialize(&r.parser))
        return err_set(err, ERR_NO_MEMORY, "%s: out of memory", name);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, text.p, text.len);
    enum err_code rc = read_stream(&r, err);
    yaml_parser_delete(&r.parser);
    return rc;
}

enum err_code config_load(struct config *config, struct config_origin *origin, struct io *io,
                          const char *path, struct err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    enum err_code rc = io_read_file(io, path, CONFIG_FILE_BYTES_MAX, &text, &len, err);
    if (rc) {
        if (rc == ERR_LIMIT) rc = err_set(err, ERR_INVALID, "%s: larger than 1 MiB", path);
        return err_context(err, "reading the configuration");
    }
    rc = config_parse(config, origin, bytes_of(text, len), path, err);
    mem_free(text);
    return rc;
}

/* ---- flags ---- */

static enum err_code flag_value(struct str *name, int argc, char *const *argv, int *i,
                                struct str *value, struct err *err)
{
    const char *equals = memchr(name->p, '=', name->len);
    if (equals) {
        *value = (struct str){equals + 1, name->len - (size_t)(equals + 1 - name->p)};
        name->len = (size_t)(equals - name->p);
        return ERR_OK;
    }
    if (*i + 1 >= argc)
        return err_set(err, ERR_INVALID, "flag --%.*s needs a value", STR_ARG(*name));
    *value = str_of(argv[++*i]);
    return ERR_OK;
}

enum err_code config_args(struct config *config, struct config_origin *origin, int argc,
                          char *const *argv, struct config_args *out, struct err *err)
{
    *out = (struct config_args){0};
    for (int i = 1; i < argc; i++) {
        struct str arg = str_of(argv[i]);
        if (str_eq(arg, STR("--help")) || str_eq(arg, STR("-h"))) {
            out->help = true;
            continue;
        }
        if (str_eq(arg, STR("--version"))) {
            out->version = true;
            continue;
        }
        if (str_eq(arg, STR("--print-config-docs"))) {
            out->print_docs = true;
            continue;
        }
        if (!str_has_prefix(arg, STR("--")))
            return err_set(err, ERR_INVALID, "unexpected argument '%s'", argv[i]);
        struct str name = {arg.p + 2, arg.len - 2}, value;
        enum err_code rc = flag_value(&name, argc, argv, &i, &value, err);
        bool is_file = str_eq(name, STR("config"));
        const struct config_key *key = is_file ? NULL : config_key_find(name);
        if (!is_file && !key) return unknown_key(name, "flag", err); /* the better reason of two */
        if (rc) return rc;
        if (is_file) {
            out->file = value.p; /* argv's own end is its end */
            continue;
        }
        uint8_t *source = &origin->source[key_index(key)];
        if (*source == CONFIG_FLAG)
            return err_set(err, ERR_INVALID, "flag --%.*s is given twice", STR_ARG(name));
        *source = CONFIG_FLAG;
        rc = config_set(config, key, value, err);
        if (rc) return err_context(err, "flag --%.*s", STR_ARG(name));
    }
    return ERR_OK;
}

void config_diff(const struct config *a, const struct config *b,
                 void (*fn)(void *ctx, const struct config_key *key), void *ctx)
{
    for (size_t i = 0; config_key_at(i); i++) {
        const struct config_key *key = config_key_at(i);
        char va[CONFIG_TEXT_BYTES], vb[CONFIG_TEXT_BYTES];
        config_print(a, key, va, sizeof(va));
        config_print(b, key, vb, sizeof(vb));
        if (strcmp(va, vb) != 0) fn(ctx, key);
    }
}
