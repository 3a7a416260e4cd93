/* ingest/number_text.h: doubles and times in texts that others wrote. Nothing depends on the locale. */
#ifndef QUIPU_INGEST_NUMBER_TEXT_H
#define QUIPU_INGEST_NUMBER_TEXT_H

#include "base/bytes.h"

/* The NaN that texts without bits mean: Prometheus's own. */
#define TEXT_NAN_BITS UINT64_C(0x7ff8000000000001)

/* [+-] digits, point, exponent; rounded to the nearest double, too large ones to an infinity. At most NUMBER_TEXT_BYTES_MAX
 * bytes. False: it is no number. */
#define NUMBER_TEXT_BYTES_MAX 800
bool number_text_decimal(struct str text, double *out);
/* The same, and [+-]Inf, Infinity, NaN in any case, and NaN:7ff0000000000002 for one with those bits. */
bool number_text_value(struct str text, double *out);
/* Whole milliseconds: [+-] digits. False also when it does not fit. */
bool number_text_ms(struct str text, int64_t *out);
/* Decimal seconds to milliseconds: digits beyond the third are cut off; with an exponent it goes through a double. */
bool number_text_seconds(struct str text, int64_t *t_ms);

#endif
