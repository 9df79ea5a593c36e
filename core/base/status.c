/* core/base/status.c - names and texts of ESP_E..., errno, esp_err (see status.h). */
#include "core/base/status.h"

#include "core/base/str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct { const char *name, *text; } status_table[] = {
	[-ESP_OK] = { "ESP_OK", "success" },
	[-ESP_EINVAL] = { "ESP_EINVAL", "invalid value" },
	[-ESP_ENOMEM] = { "ESP_ENOMEM", "out of memory" },
	[-ESP_EIO] = { "ESP_EIO", "input/output error" },
	[-ESP_ENOENT] = { "ESP_ENOENT", "does not exist" },
	[-ESP_EEXIST] = { "ESP_EEXIST", "exists already" },
	[-ESP_EBUSY] = { "ESP_EBUSY", "busy: try later" },
	[-ESP_ETIMEDOUT] = { "ESP_ETIMEDOUT", "timed out" },
	[-ESP_ECANCELED] = { "ESP_ECANCELED", "cancelled" },
	[-ESP_EABI] = { "ESP_EABI", "not the ABI we speak" },
	[-ESP_EAGAIN] = { "ESP_EAGAIN", "not yet: more input is needed" },
	[-ESP_ECLOSED] = { "ESP_ECLOSED", "connection closed" },
	[-ESP_EPROTO] = { "ESP_EPROTO", "the peer broke its protocol" },
	[-ESP_E2BIG] = { "ESP_E2BIG", "longer than the limit" },
	[-ESP_EACCES] = { "ESP_EACCES", "not allowed" },
	[-ESP_EQUOTA] = { "ESP_EQUOTA", "over quota" },
	[-ESP_ENOSPC] = { "ESP_ENOSPC", "disk full" },
	[-ESP_ECONFLICT] = { "ESP_ECONFLICT", "changed by somebody else" },
	[-ESP_EUNKNOWN] = { "ESP_EUNKNOWN", "outcome unknown" },
	[-ESP_ECONFIG] = { "ESP_ECONFIG", "configuration is wrong" },
	[-ESP_EUNAVAIL] = { "ESP_EUNAVAIL", "service unavailable" },
	[-ESP_ETLS] = { "ESP_ETLS", "TLS failed" },
	[-ESP_ECORRUPT] = { "ESP_ECORRUPT", "stored data is damaged" },
	[-ESP_EUSAGE] = { "ESP_EUSAGE", "used wrongly" },
};

static int known(esp_status st)
{
	return st <= 0 && st > -(esp_status)(sizeof(status_table) / sizeof(status_table[0]));
}

const char *status_name(esp_status st)
{
	return known(st) ? status_table[-st].name : "ESP_E?";
}

const char *status_text(esp_status st)
{
	return known(st) ? status_table[-st].text : "unknown error";
}

esp_status status_from_errno(int err)
{
	switch (err) {
	case 0: return ESP_OK;
	case EINVAL: case EDOM: case ERANGE: case EBADF: case ENAMETOOLONG: return ESP_EINVAL;
	case ENOMEM: case ENOBUFS: return ESP_ENOMEM;
	case ENOENT: case ENOTDIR: case ESRCH: return ESP_ENOENT;
	case EEXIST: case EADDRINUSE: case ENOTEMPTY: return ESP_EEXIST;
	case EBUSY: case EMFILE: case ENFILE: case ETXTBSY: return ESP_EBUSY;
	case ETIMEDOUT: return ESP_ETIMEDOUT;
	case ECANCELED: return ESP_ECANCELED;
	case EAGAIN: case EINPROGRESS: case EINTR: return ESP_EAGAIN;
	case EPIPE: case ECONNRESET: case ENOTCONN: case ECONNABORTED: return ESP_ECLOSED;
	case EPROTO: return ESP_EPROTO;
	case E2BIG: case EFBIG: case EMSGSIZE: case EOVERFLOW: return ESP_E2BIG;
	case EACCES: case EPERM: case EROFS: return ESP_EACCES;
	case EDQUOT: return ESP_EQUOTA;
	case ENOSPC: return ESP_ENOSPC;
	case ECONNREFUSED: case EHOSTUNREACH: case ENETUNREACH: case ENETDOWN: case EADDRNOTAVAIL: return ESP_EUNAVAIL;
	default: return ESP_EIO;
	}
}

void esp_err_vset(esp_err *err, const char *fmt, va_list ap)
{
	size_t head = offsetof(esp_err, text), cap;

	if (!err || err->size <= head)
		return;
	cap = err->size - head < sizeof(err->text) ? err->size - head : sizeof(err->text);
	vsnprintf(err->text, cap, fmt, ap);
}

void esp_err_set(esp_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	esp_err_vset(err, fmt, ap);
	va_end(ap);
}

esp_status err_fail(esp_err *err, esp_status st, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	esp_err_vset(err, fmt, ap);
	va_end(ap);
	return st;
}

esp_status err_fail_errno(esp_err *err, const char *fmt, ...)
{
	int saved = errno;
	char text[sizeof(err->text)], reason[96];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	esp_err_set(err, "%s: %s", text, strerror_r(saved, reason, sizeof(reason)));
	errno = saved;
	return status_from_errno(saved);
}

static _Thread_local char refusal[200];

esp_status err_refuse(esp_status st, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(refusal, sizeof(refusal), fmt, ap);
	va_end(ap);
	return st;
}

void err_refusal(esp_err *err)
{
	if (refusal[0])
		esp_err_set(err, "%s", refusal);
	refusal[0] = '\0';
}

void esp_err_at(esp_err *err, const char *file, uint32_t line)
{
	if (!err || err->size < offsetof(esp_err, text))
		return;
	err->line = line;
	str_copy_cut(err->file, sizeof(err->file), str_of(file));
}
