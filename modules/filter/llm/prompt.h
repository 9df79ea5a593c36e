/* prompt - what a message is to the model, and what is sent to the service: pure, without I/O. */
#ifndef ESP_FILTER_LLM_PROMPT_H
#define ESP_FILTER_LLM_PROMPT_H

#include <esp/mem.h>
#include <esp/mail/buf.h>

#define CATEGORIES_MAX 32u
#define EXAMPLES_MAX   16u
#define NAME_LEN_MAX   32u
#define MESSAGE_LOOKED_AT (256u << 10)   /* bytes of a message that are read; text beyond is not looked for */
#define TEXT_MIN 200u
#define TEXT_MAX (64u << 10)
#define INSTRUCTIONS_MAX (512u << 10)    /* every category as long as allowed */
#define REQUEST_ROOM (6u * (INSTRUCTIONS_MAX + TEXT_MAX))  /* every byte escaped in JSON */
#define NONCE_LEN 16u

/*! \brief Whose interface: what requests and replies look like. */
enum api { API_OPENAI, API_ANTHROPIC, API_OLLAMA };

struct category {
	esp_str name, description;
	esp_str folder;            /* empty: stays in INBOX */
	esp_str keyword;           /* empty: none */
	const esp_str *example;
	uint32_t nexamples;
	int64_t priority;          /* lower is said first, and wins where several fit */
};

/*! \brief What every request of one configuration has in common. */
struct prompt {
	enum api api;
	int structured, reasoning;
	esp_str model;
	const struct category *category;
	uint32_t ncategories;
};

/*! \brief [any] Sender, subject and decoded text of a message, at most `cap` bytes of UTF-8 without controls but LF.
 *  `raw` is the message or its beginning.  ESP_ENOMEM.  May use 15 KiB of stack and load a charset: on a lane. */
ESP_CHECKED esp_status text_prepare(esp_str raw, size_t cap, esp_buf *out);

/*! \brief [any] The request's body.  `nonce`, random, is what the message stands between: its writer cannot know it. */
ESP_CHECKED esp_status prompt_write(
	const struct prompt *p, esp_str text, const char nonce[NONCE_LEN + 1], esp_buf *out);

/*! \brief [any] Why this cannot be the URL, name, folder or keyword; NULL: it can. */
const char *url_fault(esp_str url, int plain_allowed);
const char *name_fault(esp_str name);
const char *folder_fault(esp_str folder);
const char *keyword_fault(esp_str keyword);
/*! \brief [any] What is used without `categories`. */
extern const struct category default_categories[];
extern const uint32_t ndefault_categories;

#endif
