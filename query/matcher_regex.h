/* query/matcher_regex.h: regular expressions for matchers that the engine keeps. */
#ifndef QUIPU_QUERY_MATCHER_REGEX_H
#define QUIPU_QUERY_MATCHER_REGEX_H

#include "engine/engine.h"

/* For engine_config.regex. */
struct engine_regex matcher_regex(void);

#endif
