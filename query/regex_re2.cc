#include "query/regex_re2.h"

#include <cstring>
#include <new>
#include <vector>

#include <re2/re2.h>

struct regex_re2 {
    re2::RE2 re;
};

static enum regex_re2_error error_of(re2::RE2::ErrorCode code)
{
    switch (code) {
    case re2::RE2::NoError: return REGEX_RE2_OK;
    case re2::RE2::ErrorBadEscape: return REGEX_RE2_BAD_ESCAPE;
    case re2::RE2::ErrorBadCharClass: return REGEX_RE2_BAD_CHAR_CLASS;
    case re2::RE2::ErrorBadCharRange: return REGEX_RE2_BAD_CHAR_RANGE;
    case re2::RE2::ErrorMissingBracket: return REGEX_RE2_MISSING_BRACKET;
    case re2::RE2::ErrorMissingParen: return REGEX_RE2_MISSING_PAREN;
    case re2::RE2::ErrorUnexpectedParen: return REGEX_RE2_UNEXPECTED_PAREN;
    case re2::RE2::ErrorTrailingBackslash: return REGEX_RE2_TRAILING_BACKSLASH;
    case re2::RE2::ErrorRepeatArgument: return REGEX_RE2_REPEAT_ARGUMENT;
    case re2::RE2::ErrorRepeatSize: return REGEX_RE2_REPEAT_SIZE;
    case re2::RE2::ErrorRepeatOp: return REGEX_RE2_REPEAT_OP;
    case re2::RE2::ErrorBadPerlOp: return REGEX_RE2_BAD_PERL_OP;
    case re2::RE2::ErrorBadUTF8: return REGEX_RE2_BAD_UTF8;
    case re2::RE2::ErrorBadNamedCapture: return REGEX_RE2_BAD_NAMED_CAPTURE;
    case re2::RE2::ErrorPatternTooLarge: return REGEX_RE2_TOO_LARGE;
    default: return REGEX_RE2_INTERNAL;
    }
}

enum regex_re2_error regex_re2_compile(const char *pattern, size_t len, size_t max_mem,
                                       struct regex_re2 **out, char *arg, size_t arg_size)
{
    *out = nullptr;
    arg[0] = 0;
    try {
        re2::RE2::Options options;
        options.set_dot_nl(true);
        options.set_log_errors(false);
        options.set_max_mem((int64_t)max_mem);
        auto *re = new regex_re2{re2::RE2(re2::StringPiece(pattern, len), options)};
        if (re->re.ok()) {
            *out = re;
            return REGEX_RE2_OK;
        }
        enum regex_re2_error error = error_of(re->re.error_code());
        size_t n = re->re.error_arg().copy(arg, arg_size - 1);
        arg[n] = 0;
        delete re;
        return error;
    } catch (const std::bad_alloc &) {
        return REGEX_RE2_NO_MEMORY;
    }
}

void regex_re2_free(struct regex_re2 *re)
{
    delete re;
}

size_t regex_re2_bytes(const struct regex_re2 *re)
{
    const size_t object = 4096, instruction = 16; /* the parsed tree and tables; one Prog::Inst */
    return object + (size_t)re->re.ProgramSize() * instruction;
}

size_t regex_re2_n_groups(const struct regex_re2 *re)
{
    return (size_t)re->re.NumberOfCapturingGroups();
}

bool regex_re2_match(const struct regex_re2 *re, const char *text, size_t len,
                     struct regex_re2_span *spans, size_t n)
{
    re2::StringPiece input(text, len);
    if (!n) return re->re.Match(input, 0, len, re2::RE2::ANCHOR_BOTH, nullptr, 0);
    try {
        std::vector<re2::StringPiece> groups(n);
        if (!re->re.Match(input, 0, len, re2::RE2::ANCHOR_BOTH, groups.data(), (int)n))
            return false;
        for (size_t i = 0; i < n; i++) spans[i] = {groups[i].data(), groups[i].size()};
        return true;
    } catch (const std::bad_alloc &) {
        return false;
    }
}
