/* headers.cc - every public header of libespmail is valid C++17, alone and together. */
#include <esp/mail/address.h>
#include <esp/mail/address_list.h>
#include <esp/mail/buf.h>
#include <esp/mail/charset.h>
#include <esp/mail/cursor.h>
#include <esp/mail/date.h>
#include <esp/mail/dkim.h>
#include <esp/mail/encoding.h>
#include <esp/mail/header.h>
#include <esp/mail/imap_read.h>
#include <esp/mail/imap_write.h>
#include <esp/mail/mime.h>
#include <esp/mail/smtp.h>
#include <esp/mail/text.h>
#include <esp/mail/utf8.h>

int main()
{
	esp_cursor c = esp_cursor_of(ESP_STR("250"));
	uint64_t n = 0;

	return esp_cursor_number(&c, 250, &n) && n == 250 ? 0 : 1;
}
