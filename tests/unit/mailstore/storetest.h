/* storetest.h - what the tests of storage_mailstore share: actors, names, messages, numbers from a seed. */
#ifndef STORETEST_H
#define STORETEST_H

#include "core/base/id.h"
#include "tests/support/sqlhost.h"
#include "tests/support/test.h"

#include <string.h>

static inline esp_str z(const char *s) { return (esp_str){ s, strlen(s) }; }

/* xorshift: the same numbers for the same seed */
struct rnd { uint64_t s; };
static inline uint64_t rnd(struct rnd *r)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return r->s;
}
static inline uint32_t rnd_below(struct rnd *r, uint32_t n) { return (uint32_t)(rnd(r) >> 11) % n; }
/* The seed of this run: ESP_TEST_SEED, or a fixed one; printed so that a failure can be repeated. */
static inline uint64_t test_seed(uint64_t otherwise)
{
	const char *s = getenv("ESP_TEST_SEED");

	return s ? strtoull(s, NULL, 10) : otherwise;
}

static inline esp_actor actor_new(const char *login)
{
	return (esp_actor){ .account = id_new(), .login = z(login) };
}
static inline esp_id box_id(const esp_actor *who, const char *name)
{
	esp_arena *a = sqlhost_arena();
	esp_mailbox box;

	must_ok(sqlhost->store->find(sqlhost->store, a, who, z(name), &box));
	sqlhost_arena_free(a);
	return box.id;
}
static inline esp_append message_of(const char *text)
{
	esp_append m = { .size = sizeof m, .bytes = strlen(text), .content = z(text) };

	m.id = sqlhost_blob_put(text, strlen(text));
	return m;
}
static inline uint32_t put(const esp_actor *who, esp_id box, const char *text, uint64_t flags)
{
	esp_append m = message_of(text);
	uint32_t uid, validity;
	uint64_t modseq;
	esp_err err = ESP_ERR_INIT;

	m.flags = flags;
	must_ok(sqlhost->store->append(sqlhost->store, who, box, &m, 1, &uid, &validity, &modseq, &err));
	return uid;
}
static inline const esp_view *view_of(const esp_actor *who, esp_id box)
{
	const esp_view *v = NULL;

	must_ok(sqlhost->store->sync(sqlhost->store, who, box, &v));
	return v;
}
static inline esp_uid_set uids(esp_uid_range *r, uint32_t first, uint32_t last)
{
	*r = (esp_uid_range){ first, last };
	return (esp_uid_set){ r, 1 };
}
static inline uint64_t set_flags(
	const esp_actor *who, esp_id box, uint32_t first, uint32_t last, uint32_t op, uint64_t flags)
{
	esp_store_args args = { .size = sizeof args, .op = op, .flags = flags };
	esp_arena *a = sqlhost_arena();
	esp_uid_range r;
	esp_uid_set failed;
	uint64_t modseq;

	must_ok(sqlhost->store->store(sqlhost->store, a, who, box, uids(&r, first, last), &args, &modseq, &failed));
	must(failed.n == 0);
	sqlhost_arena_free(a);
	return modseq;
}

#define MESSAGE \
	"From: a@example.test\r\nTo: b@example.test\r\nSubject: hello\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\n" \
	"Message-ID: <1@example.test>\r\n\r\nbody of the message\r\n"

#endif
