/* names - what esp.conf may say, and the categories without it. */
#include "prompt.h"

#include <esp/mail/cursor.h>
#include <esp/mail/utf8.h>

#include <strings.h>

#include "modules/common/network.h"

#define CATEGORY(n, d, f, p) \
	{ .name = ESP_STR_INIT(n), .description = ESP_STR_INIT(d), .folder = ESP_STR_INIT(f), .priority = (p) }

const struct category default_categories[] = {
	CATEGORY("primary", "Written by a person to the recipient, or what he waits for and must not miss: replies, "
		"invitations, security codes.", "", 10),
	CATEGORY("updates", "Sent by a machine about something the recipient did: confirmations, invoices, receipts, "
		"deliveries, statements, alerts.", "Updates", 20),
	CATEGORY("social", "From social networks, dating and media sharing: contacts, mentions, likes, invitations to "
		"connect.", "Social", 30),
	CATEGORY("forums", "From mailing lists, discussion groups, issue trackers and forums.", "Forums", 40),
	CATEGORY("promotions", "Offers, advertising, newsletters, sales and other marketing.", "Promotions", 50),
};
const uint32_t ndefault_categories = sizeof default_categories / sizeof default_categories[0];

static esp_str host_of(esp_str rest)
{
	size_t n = 0, colon;

	while (n < rest.len && rest.ptr[n] != '/' && rest.ptr[n] != '?' && rest.ptr[n] != '#')
		n++;
	colon = n;
	for (size_t i = n; i-- > 0 && rest.ptr[i] != ']';)
		if (rest.ptr[i] == ':')
			colon = i;
	return (esp_str){ rest.ptr, colon };
}

const char *url_fault(esp_str url, int plain_allowed)
{
	int secure = url.len > 8 && memcmp(url.ptr, "https://", 8) == 0;
	esp_str rest, host;
	uint64_t port;
	size_t end;

	if (!secure && !(url.len > 7 && memcmp(url.ptr, "http://", 7) == 0))
		return "write it in full: \"https://HOST/PATH\" or \"http://127.0.0.1:PORT/PATH\"";
	rest = secure ? (esp_str){ url.ptr + 8, url.len - 8 } : (esp_str){ url.ptr + 7, url.len - 7 };
	for (size_t i = 0; i < url.len; i++)
		if (url.ptr[i] <= ' ' || url.ptr[i] > '~')
			return "it has a space, a control or a letter that is not ASCII";
	host = host_of(rest);
	for (end = host.len; end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?' && rest.ptr[end] != '#'; end++)
		;
	if (host.len == 0)
		return "it has no host";
	if (memchr(host.ptr, '@', end))
		return "it has a user: the key goes into `api_key`";
	if (end > host.len &&
		(!esp_str_number((esp_str){ rest.ptr + host.len + 1, end - host.len - 1 }, 65535, &port) || !port))
		return "its port is none of 1 to 65535";
	if (end == rest.len || rest.ptr[end] != '/')
		return "it has no path: write all of it, as \"https://api.example.org/v1/chat/completions\"";
	if (!secure && !plain_allowed && !network_host_is_loopback(host))
		return "mail and key would leave this machine unencrypted: write https://, or set `unencrypted` if that "
			   "network "
			   "is yours";
	return NULL;
}

const char *name_fault(esp_str name)
{
	if (name.len == 0 || name.len > NAME_LEN_MAX)
		return "it has 1 to 32 characters";
	for (size_t i = 0; i < name.len; i++)
		if (!(name.ptr[i] >= 'a' && name.ptr[i] <= 'z') && !esp_ascii_isdigit(name.ptr[i]) && name.ptr[i] != '-' &&
			name.ptr[i] != '_')
			return "it may have a to z, digits, - and _";
	return NULL;
}

const char *folder_fault(esp_str folder)
{
	if (folder.len > 250)
		return "it has at most 250 bytes";
	if (!esp_utf8_valid(folder))
		return "it is not UTF-8";
	if (folder.len == 4 && strncasecmp(folder.ptr, "Junk", 4) == 0)
		return "what is moved there is learned as spam, and a model's guess is no user's word: name another, as "
			   "\"Promotions\"";
	for (size_t i = 0; i < folder.len; i++) {
		if ((unsigned char)folder.ptr[i] < ' ' || folder.ptr[i] == 0x7f || strchr("%*\\", folder.ptr[i]))
			return "it has a control or one of % * \\";
		if (folder.ptr[i] == '/' && (i == 0 || i + 1 == folder.len || folder.ptr[i - 1] == '/'))
			return "a folder within it has no name";
	}
	return NULL;
}

/* An atom (RFC 3501 9), with the $ of registered keywords in front if that is wanted. */
const char *keyword_fault(esp_str keyword)
{
	if (keyword.len > 64)
		return "it has at most 64 characters";
	for (size_t i = 0; i < keyword.len; i++)
		if (keyword.ptr[i] <= ' ' || keyword.ptr[i] > '~' || strchr("(){%*\"\\]", keyword.ptr[i]))
			return "it may have no space, control or one of ( ) { % * \" \\ ]";
	return NULL;
}
