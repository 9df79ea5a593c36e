/* test_filter_subject.cpp - the module against the fake host: make check */
#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

#include "fakehost.h"

/* After so many more allocations there is no memory, once; below 0: there always is. */
static long allocations = -1;

void *operator new(size_t n)
{
	void *p = allocations < 0 || allocations-- > 0 ? std::malloc(n) : nullptr;

	if (!p)
		throw std::bad_alloc();
	return p;
}
void operator delete(void *p) noexcept { std::free(p); }
void operator delete(void *p, size_t) noexcept { std::free(p); }

static esp_verdict with_header(fakehost *h, const std::string &header, esp_answer *answer)
{
	return fakehost_message(h, (header + "\r\n\r\nhello\r\n").c_str(), answer);
}

static void refuses_by_phrase()
{
	fakehost *h = fakehost_new("phrases=free lunch,m\303\274nze", "reply=no, thank you", NULL);
	esp_answer answer;

	assert(fakehost_start(h) == ESP_OK);
	assert(with_header(h, "From: <a@b.test>\r\nSubject: Your FREE\r\n Lunch", &answer) == ESP_VERDICT_REJECT);
	assert(answer.smtp_code == 550 && esp_str_eq(answer.text, ESP_STR("no, thank you")));
	assert(esp_str_eq(answer.reason, ESP_STR("FREE LUNCH")) || esp_str_eq(answer.reason, ESP_STR("free lunch")));
	assert(with_header(h, "Subject: =?utf-8?B?RnJlZSBsdW5jaA==?=", &answer) == ESP_VERDICT_REJECT);
	assert(with_header(h, "Subject: =?iso-8859-1?Q?eine_M=DCNZE?=", &answer) == ESP_VERDICT_REJECT);
	assert(with_header(h, "Subject: hello\r\nsubject: free lunch", &answer) == ESP_VERDICT_REJECT);
	assert(fakehost_metric(h, "esp_filter_subject_refused_total") == 4);
	fakehost_stop(h);
}

static void lets_all_others_pass()
{
	fakehost *h = fakehost_new("phrases=free lunch", NULL);
	esp_answer answer;

	assert(fakehost_start(h) == ESP_OK);
	assert(with_header(h, "Subject: free the lunch", &answer) == ESP_VERDICT_CONTINUE);
	assert(with_header(h, "X-Subject: free lunch", &answer) == ESP_VERDICT_CONTINUE);
	assert(with_header(h, "Subject:", &answer) == ESP_VERDICT_CONTINUE);
	assert(with_header(h, "From: <a@b.test>", &answer) == ESP_VERDICT_CONTINUE);
	assert(with_header(h, "Subject: " + std::string(8000, 'x'), &answer) == ESP_VERDICT_CONTINUE);
	assert(fakehost_metric(h, "esp_filter_subject_refused_total") == 0);
	fakehost_stop(h);
}

static void refuses_what_is_out_of_bounds()
{
	fakehost *h = fakehost_new("phrases=free lunch", NULL);
	esp_answer answer;
	std::string many;

	assert(fakehost_start(h) == ESP_OK);
	assert(with_header(h, "Subject: " + std::string(9000, 'x') + " free lunch", &answer) == ESP_VERDICT_REJECT);
	assert(esp_str_eq(answer.reason, ESP_STR("subject out of bounds")));
	for (int i = 0; i < 5; i++)
		many += "Subject: x\r\n";
	assert(with_header(h, many + "To: <a@b.test>", &answer) == ESP_VERDICT_REJECT);
	fakehost_stop(h);
}

static void refuses_a_phrase_that_is_everywhere()
{
	const std::string too_long = "phrases=" + std::string(201, 'x');
	fakehost *h = fakehost_new("phrases=free lunch, ", NULL);

	assert(fakehost_start(h) == ESP_ECONFIG && strstr(fakehost_err(h)->text, "in every subject"));
	fakehost_stop(h);
	h = fakehost_new(too_long.c_str(), NULL);
	assert(fakehost_start(h) == ESP_ECONFIG && strstr(fakehost_err(h)->text, "at most 200 bytes"));
	fakehost_stop(h);
}

/* Every allocation of init() fails once: a status comes back, nothing is thrown into the host, nothing is lost. */
static void an_exception_becomes_a_status()
{
	esp_status st = ESP_ENOMEM;
	long n = 0;

	for (; st != ESP_OK && n < 100; n++) {
		fakehost *h =
			fakehost_new("phrases=a phrase that needs memory of its own,another one that does so as well", NULL);

		allocations = n;
		st = fakehost_start(h);
		allocations = -1;
		assert(st == ESP_OK || (st == ESP_ENOMEM && strstr(fakehost_err(h)->text, "bad_alloc")));
		fakehost_stop(h);
	}
	assert(st == ESP_OK && n > 2);
}

int main()
{
	refuses_by_phrase();
	lets_all_others_pass();
	refuses_what_is_out_of_bounds();
	refuses_a_phrase_that_is_everywhere();
	an_exception_becomes_a_status();
	std::puts("test_filter_subject: 5 passed");
	return 0;
}
