/* hash - argon2id on the hash lane: PHC strings in, yes or no out.
 *
 * A job points at its caller's password and makes no copy that would have to be wiped; the fiber waits, so that the job
 * may live on its stack.  The lane's width bounds memory (19 MiB a hash by default), its queue bounds how long a flood
 * can make others wait.
 */
#include "auth.h"

#include <argon2.h>
#include <stdio.h>
#include <stdlib.h>

#define SALT 16
#define TAG  32

struct hash_job {
	const struct auth *a;
	const char *phc;           /* verify */
	char *out;                 /* make */
	esp_str password;
	uint8_t salt[SALT];
};

static int32_t on_verify(void *arg)
{
	struct hash_job *job = arg;
	int rc = argon2id_verify(job->phc, job->password.ptr, job->password.len);

	return rc == ARGON2_OK ? ESP_OK : rc == ARGON2_MEMORY_ALLOCATION_ERROR ? ESP_EBUSY : ESP_EACCES;
}

static int32_t on_make(void *arg)
{
	struct hash_job *job = arg;
	int rc = argon2id_hash_encoded(job->a->passes, job->a->memory_kib, 1, job->password.ptr, job->password.len,
	                               job->salt, SALT, TAG, job->out, AUTH_PHC_MAX);

	return rc == ARGON2_OK ? ESP_OK : rc == ARGON2_MEMORY_ALLOCATION_ERROR ? ESP_EBUSY : ESP_EINVAL;
}

static esp_status run(struct auth *a, int32_t (*fn)(void *), struct hash_job *job)
{
	int32_t result = ESP_EACCES;
	esp_status st = a->core.pool->run(a->self, a->hash_lane, fn, job, &result);

	return st == ESP_OK ? result : st;
}

esp_status hash_verify(struct auth *a, const char *phc, esp_str password)
{
	struct hash_job job = { .a = a, .phc = phc, .password = password };

	return run(a, on_verify, &job);
}

esp_status hash_make(struct auth *a, esp_str password, char out[AUTH_PHC_MAX])
{
	struct hash_job job = { .a = a, .out = out, .password = password };

	a->crypto->random(job.salt, sizeof job.salt);
	return run(a, on_make, &job);
}

static void random_base64(struct auth *a, char *out, size_t chars)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t bits[64];

	a->crypto->random(bits, chars);
	for (size_t i = 0; i < chars; i++)
		out[i] = alphabet[bits[i] & 63];
	out[chars - 1] = 'A';      /* the last character of 16 or 32 bytes carries fewer than six bits */
	out[chars] = '\0';
}

void hash_of_nobody(struct auth *a, char out[AUTH_PHC_MAX])
{
	char salt[23], tag[44];

	random_base64(a, salt, 22);
	random_base64(a, tag, 43);
	snprintf(out, AUTH_PHC_MAX, "$argon2id$v=19$m=%u,t=%u,p=1$%s$%s", a->memory_kib, a->passes, salt, tag);
}

int hash_is_weak(const struct auth *a, const char *phc)
{
	unsigned m = 0, t = 0, p = 0;

	if (sscanf(phc, "$argon2id$v=19$m=%u,t=%u,p=%u$", &m, &t, &p) != 3)
		return 1;
	return m < a->memory_kib || t < a->passes;
}
