/* core/control/certificates.c - see certificates.h. */
#include "core/control/certificates.h"

#include <stdlib.h>
#include <string.h>

enum { DAY = 86400 };

struct certificates_told {
	esp_time at;                    /* 0: never */
	bool ended;                     /* it was told that it has ended: nothing more to say */
};

static bool is_same(const struct tls_certificate *a, const struct tls_certificate *b)
{
	return a->expires == b->expires && strcmp(a->file, b->file) == 0;
}

/* What was told of a certificate goes on to the next store if it is there again. */
static void carry_over(const struct certificates *from, const struct tls_store *store, struct certificates_told *told)
{
	struct tls_certificate was, is;

	for (size_t i = 0; from->store && tls_store_certificate(from->store, i, &was); i++)
		for (size_t k = 0; from->told[i].at && tls_store_certificate(store, k, &is); k++)
			if (is_same(&was, &is))
				told[k] = from->told[i];
}

static int take_in(struct certificates *c, struct tls_store *store)
{
	struct certificates_told *told = calloc(tls_store_count(store), sizeof(*told));

	if (!told)
		return ESP_ENOMEM;
	carry_over(c, store, told);
	certificates_forget(c);
	*c = (struct certificates){ tls_store_ref(store), told };
	return ESP_OK;
}

static bool is_due(const struct certificates_told *told, esp_time left, esp_time now, esp_time before)
{
	if (left <= 0)
		return !told->ended;
	/* a clock that was set back is no reason to be silent */
	return left < before && (!told->at || now - told->at >= DAY || now < told->at);
}

int certificates_look(struct certificates *c, struct tls_store *store, esp_time now, esp_time before,
                      certificates_tell *tell, void *arg)
{
	struct tls_certificate one;

	if (!store) {
		certificates_forget(c);
		return ESP_OK;
	}
	if (store != c->store) {
		int status = take_in(c, store);

		if (status != ESP_OK)
			return status;
	}
	for (size_t i = 0; tls_store_certificate(store, i, &one); i++) {
		if (!is_due(&c->told[i], one.expires - now, now, before))
			continue;
		c->told[i] = (struct certificates_told){ .at = now, .ended = one.expires <= now };
		tell(arg, &one, now);
	}
	return ESP_OK;
}

void certificates_forget(struct certificates *c)
{
	tls_store_unref(c->store);
	free(c->told);
	*c = (struct certificates){ NULL, NULL };
}

bool certificates_first(const struct tls_store *store, struct tls_certificate *ret)
{
	struct tls_certificate one;
	bool found = false;

	for (size_t i = 0; store && tls_store_certificate(store, i, &one); i++) {
		if (!found || one.expires < ret->expires)
			*ret = one;
		found = true;
	}
	return found;
}

int64_t certificates_days_left(const struct tls_certificate *one, esp_time now)
{
	int64_t left = one->expires - now;

	return left >= 0 ? left / DAY : -((-left + DAY - 1) / DAY);
}
