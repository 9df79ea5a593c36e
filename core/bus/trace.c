/* core/bus/trace.c - see trace.h. */
#include "core/bus/trace.h"
#include "core/bus/verdict.h"

#include <math.h>

void trace_begin(struct trace *t, esp_arena *arena)
{
	*t = (struct trace){ .pub = { .size = sizeof t->pub, .call_size = sizeof *t->calls }, .arena = arena };
}

static bool make_room(struct trace *t, bool silent)
{
	uint32_t cap = t->cap ? t->cap * 2 : 16;
	esp_trace_call *grown;

	if (t->pub.ncalls >= (silent ? TRACE_SILENT_MAX : TRACE_CALLS_MAX))
		return false;
	if (t->pub.ncalls < t->cap)
		return true;
	grown = esp_alloc_array(t->arena, cap, sizeof *grown);
	if (!grown)
		return false;
	if (t->pub.ncalls)
		memcpy(grown, t->calls, t->pub.ncalls * sizeof *grown);
	t->pub.calls = t->calls = grown;
	t->cap = cap;
	return true;
}

/* The hook's memory may go: a clean copy, or nothing when the texts have had their room. */
static esp_str keep(struct trace *t, esp_str s)
{
	esp_str copy = { NULL, 0 };

	if (s.len > TRACE_TEXT_MAX)
		s.len = TRACE_TEXT_MAX;
	if (s.len == 0 || t->bytes + s.len > TRACE_BYTES_MAX || answer_line(t->arena, s, &copy) != ESP_OK)
		return (esp_str){ NULL, 0 };
	t->bytes += s.len;
	return copy;
}

static void keep_answer(struct trace *t, esp_trace_call *c, const esp_answer *a)
{
	c->reason = keep(t, a->reason.len ? a->reason : a->text);
	c->name = keep(t, a->name);
	c->folder = keep(t, a->folder);
	c->found = a->found;
	if (!a->has_score || !isfinite(a->score))
		return;
	c->flags |= ESP_TRACE_SCORE;
	c->score = a->score;
}

void trace_note(struct trace *t, const struct trace_how *how, esp_verdict v, const esp_answer *a)
{
	esp_trace_call *c;

	if (!make_room(t, !a)) {
		t->pub.dropped++;
		return;
	}
	c = &t->calls[t->pub.ncalls++];      /* zeros, as the arena gives them: to write them again costs as much */
	c->size = sizeof *c;
	c->point = how->point;
	c->index = t->index;
	c->verdict = v;
	c->flags = how->flags;
	if (how->took >= ESP_MSEC)
		c->msec = (uint32_t)(how->took / ESP_MSEC);
	c->module = how->module;
	c->to = t->to;
	if (a)
		keep_answer(t, c, a);
}
