/* tools/cli.c */
#include "tools/cli.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tools/config.h"

static const struct cli_option *find_option(const struct cli_command *command, struct str name)
{
    for (size_t i = 0; i < command->n_options; i++) {
        const struct cli_option *o = &command->options[i];
        if (o->kind != CLI_SECTION && str_eq(name, str_of(o->name))) return o;
    }
    return NULL;
}

static enum err_code set_option(const struct cli_option *o, struct str value, struct err *err)
{
    enum err_code rc = ERR_OK;
    if (o->kind == CLI_TEXT) {
        *(const char **)o->out = value.p;
    } else if (o->kind == CLI_DURATION) {
        rc = config_parse_duration(value, (int64_t *)o->out, err);
    } else {
        char *end = NULL;
        uint64_t v =
            value.len && value.p[0] >= '0' && value.p[0] <= '9' ? strtoull(value.p, &end, 10) : 0;
        if (!end || *end)
            rc = err_set(err, ERR_INVALID, "'%.*s' is not a whole number", STR_ARG(value));
        if (!rc) *(uint64_t *)o->out = v;
    }
    return rc ? err_context(err, "--%s", o->name) : ERR_OK;
}

static enum err_code parse_option(const struct cli_command *command, int argc, char **argv, int *i,
                                  struct err *err)
{
    const char *text = argv[*i] + 2, *equals = strchr(text, '=');
    struct str name = {text, equals ? (size_t)(equals - text) : strlen(text)};
    const struct cli_option *o = find_option(command, name);
    if (!o)
        return err_set(err, ERR_INVALID, "unknown option --%.*s (see quipu %s --help)",
                       STR_ARG(name), command->name);
    if (o->kind == CLI_FLAG) {
        if (equals) return err_set(err, ERR_INVALID, "--%s takes no value", o->name);
        *(bool *)o->out = true;
        return ERR_OK;
    }
    if (equals) return set_option(o, str_of(equals + 1), err);
    if (*i + 1 >= argc) return err_set(err, ERR_INVALID, "--%s needs a value", o->name);
    return set_option(o, str_of(argv[++*i]), err);
}

enum err_code cli_parse(const struct cli_command *command, int argc, char **argv, char **args,
                        size_t args_max, size_t *n_args, bool *helped, struct err *err)
{
    *n_args = 0;
    *helped = false;
    for (size_t i = 0; i < command->n_options; i++) {
        const struct cli_option *o = &command->options[i];
        const char *value = o->kind != CLI_SECTION && o->env ? getenv(o->env) : NULL;
        if (!value || !*value) continue;
        enum err_code rc = set_option(o, str_of(value), err);
        if (rc) return err_context(err, "%s", o->env);
    }
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            cli_help(command, stdout);
            *helped = true;
            return ERR_OK;
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            enum err_code rc = parse_option(command, argc, argv, &i, err);
            if (rc) return rc;
        } else if (*n_args < args_max) {
            args[(*n_args)++] = argv[i];
        } else {
            return err_set(err, ERR_INVALID, "unexpected argument '%s'", argv[i]);
        }
    }
    return ERR_OK;
}

enum err_code cli_take_repeated(int *argc, char **argv, const char *name, const char **values,
                                size_t max, size_t *n, struct err *err)
{
    int to = 1;
    size_t len = strlen(name);
    bool options = true;
    *n = 0;
    for (int i = 1; i < *argc; i++) {
        const char *arg = argv[i], *value = NULL;
        options &= strcmp(arg, "--") != 0;
        bool named = options && strncmp(arg, "--", 2) == 0 && strncmp(arg + 2, name, len) == 0;
        if (named && arg[2 + len] == '=')
            value = arg + len + 3;
        else if (named && !arg[2 + len] && i + 1 < *argc)
            value = argv[++i];
        if (!value) {
            argv[to++] = argv[i];
            continue;
        }
        if (*n == max) return err_set(err, ERR_INVALID, "more than %zu times --%s", max, name);
        values[(*n)++] = value;
    }
    *argc = to;
    return ERR_OK;
}

void cli_help(const struct cli_command *command, FILE *out)
{
    fprintf(out, "usage: quipu %s\n\n%s\n", command->usage, command->doc);
    for (size_t i = 0; i < command->n_options; i++) {
        const struct cli_option *o = &command->options[i];
        if (o->kind == CLI_SECTION) {
            fprintf(out, "\n%s\n", o->name);
            continue;
        }
        char left[64];
        snprintf(left, sizeof(left), "--%s %s", o->name, o->value ? o->value : "");
        fprintf(out, "  %-26s %s\n", left, o->doc);
        if (o->env) fprintf(out, "  %-26s (default from $%s)\n", "", o->env);
    }
    if (command->examples) fprintf(out, "\nexamples:\n%s", command->examples);
}

const char *cli_human(double v, char *buf, size_t size)
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    size_t i = 0;
    while (fabs(v) >= 999.5 && i + 1 < COUNT_OF(units)) {
        v /= 1000;
        i++;
    }
    int digits = fabs(v) >= 99.95 || (i == 0 && v == floor(v)) ? 0 : fabs(v) >= 9.995 ? 1 : 2;
    snprintf(buf, size, "%.*f%s", digits, v, units[i]);
    return buf;
}

const char *cli_human_bytes(double v, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    while (fabs(v) >= 1023.5 && i + 1 < COUNT_OF(units)) {
        v /= 1024;
        i++;
    }
    snprintf(buf, size, "%.*f %s", i == 0 ? 0 : 1, v, units[i]);
    return buf;
}

static bool parse_rfc3339(struct str text, int64_t *t_ms)
{
    char z[40];
    if (text.len < 20 || text.len >= sizeof(z)) return false;
    snprintf(z, sizeof(z), "%.*s", STR_ARG(text));
    struct tm tm = {0};
    const char *rest = strptime(z, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest) return false;
    double fraction = 0;
    if (*rest == '.') {
        char *end;
        fraction = strtod(rest, &end);
        rest = end;
    }
    if (strcmp(rest, "Z") != 0) return false;
    *t_ms = (int64_t)timegm(&tm) * 1000 + (int64_t)rint(fraction * 1000);
    return true;
}

enum err_code cli_parse_time(struct str text, int64_t now_ms, int64_t *t_ms, struct err *err)
{
    if (str_eq(text, STR("now"))) {
        *t_ms = now_ms;
        return ERR_OK;
    }
    if (str_has_prefix(text, STR("now-"))) {
        int64_t back_ms;
        enum err_code rc =
            config_parse_duration((struct str){text.p + 4, text.len - 4}, &back_ms, err);
        if (rc) return rc;
        *t_ms = now_ms - back_ms;
        return ERR_OK;
    }
    if (parse_rfc3339(text, t_ms)) return ERR_OK;
    char z[64], *end = z;
    snprintf(z, sizeof(z), "%.*s", STR_ARG(text));
    double seconds = strtod(z, &end);
    if (end != z && *end == 0 && text.len < sizeof(z) && fabs(seconds) < 9e12) {
        *t_ms = (int64_t)rint(seconds * 1000);
        return ERR_OK;
    }
    return err_set(err, ERR_INVALID,
                   "'%.*s' is not a time such as now, now-1h, 1767312000 or 2026-01-02T00:00:00Z",
                   STR_ARG(text));
}

void cli_progress(const char *fmt, ...)
{
    if (!isatty(STDERR_FILENO)) return;
    va_list args;
    va_start(args, fmt);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, args);
    fflush(stderr);
    va_end(args);
}

void cli_progress_end(void)
{
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
}
