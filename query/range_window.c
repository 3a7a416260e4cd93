/* query/range_window.c: see the header. */
#include "query/range_window.h"

enum window_kinds window_kinds_of(const struct range_window *w, ptrdiff_t from, ptrdiff_t to)
{
    if (!w->h) return WINDOW_FLOATS;
    ptrdiff_t n_histograms = 0;
    for (ptrdiff_t i = from; i < to; i++) n_histograms += w->h[i] != NULL;
    if (n_histograms == 0) return WINDOW_FLOATS;
    return n_histograms == to - from ? WINDOW_HISTOGRAMS : WINDOW_MIXED;
}

enum naming { NAME_NEVER, NAME_IF_KNOWN, NAME_ALWAYS };

static const struct {
    enum window_note note;
    enum note_kind kind;
    enum naming naming; /* if known: ` for metric name "m"`; always: ` "m"` */
    const char *text;
} texts[] = {
    {NOTE_MIXED_KINDS, NOTE_WARNING, NAME_IF_KNOWN, "encountered a mix of histograms and floats"},
    {NOTE_IGNORED_HISTOGRAMS, NOTE_INFO, NAME_IF_KNOWN,
     "ignored histograms in a range containing both floats and histograms"},
    {NOTE_NO_COUNTER_NAME, NOTE_INFO, NAME_ALWAYS,
     "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"},
    {NOTE_NOT_A_COUNTER, NOTE_WARNING, NAME_ALWAYS,
     "this native histogram metric is not a counter:"},
    {NOTE_NOT_A_GAUGE, NOTE_WARNING, NAME_ALWAYS, "this native histogram metric is not a gauge:"},
    {NOTE_MIXED_SCHEMAS, NOTE_WARNING, NAME_IF_KNOWN,
     "vector contains a mix of histograms with exponential and custom buckets schemas"},
    {NOTE_RECONCILED_SUB, NOTE_INFO, NAME_NEVER,
     "mismatched custom buckets were reconciled during subtraction"},
    {NOTE_RECONCILED_ADD, NOTE_INFO, NAME_NEVER,
     "mismatched custom buckets were reconciled during addition"},
    {NOTE_RECONCILED_SUM, NOTE_INFO, NAME_NEVER,
     "mismatched custom buckets were reconciled during aggregation"},
    {NOTE_CONFLICTING_RESETS, NOTE_WARNING, NAME_NEVER,
     "conflicting counter resets during histogram aggregation"},
    {NOTE_START_OVERLAP, NOTE_WARNING, NAME_ALWAYS,
     "sample has start time that overlaps with previous sample timestamp for metric"},
};

void window_note(const struct range_window *w, enum window_note note)
{
    if (!w->notes || (w->noted && *w->noted & note)) return;
    if (w->noted) *w->noted |= note;
    size_t i = 0;
    while (texts[i].note != note) i++;
    enum naming naming = texts[i].naming;
    if (naming == NAME_NEVER || (naming == NAME_IF_KNOWN && w->metric.len == 0)) {
        notes_add(w->notes, texts[i].kind, w->pos_arg, "%s", texts[i].text);
        return;
    }
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, w->metric);
    notes_add(w->notes, texts[i].kind, w->pos_arg, "%s%s %.*s", texts[i].text,
              naming == NAME_IF_KNOWN ? " for metric name" : "", (int)quoted.len,
              quoted.p ? (const char *)quoted.p : "");
    buf_release(&quoted);
}
