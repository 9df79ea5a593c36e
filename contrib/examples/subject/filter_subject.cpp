/* filter_subject - refuses messages whose Subject contains one of a list of phrases.  In C++17.
 *
 * Runs at: headers.  Thread: worker, in the hook's fiber; waits for nothing.  Owns: Filter, made in init() and deleted
 * in stop(); only read in between, so workers need no lock.
 * What is thrown stays inside: each function that the core calls is a noexcept trampoline around guarded().
 * Failure policy: the administrator's (default DEFER), when there is no memory.
 */
#include <esp/host.h>
#include <esp/hook.h>
#include <esp/metric.h>
#include <esp/mail/header.h>
#include <esp/mail/text.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

/* A message has one Subject of some hundred bytes (RFC 5322 3.6).  What is beyond these bounds is refused unread: who
 * hides a phrase behind much text or many fields gets no further, and costs no more. */
constexpr size_t max_subject = 8192;
constexpr unsigned max_subjects = 4;
constexpr size_t max_folded = 4 * max_subject;

/* Text as libespmail folds it for searches: encoded words decoded, UTF-8, without case. */
class Folded {
public:
	Folded() { esp_buf_init(&buf, max_folded); }
	~Folded() { esp_buf_free(&buf); }
	Folded(const Folded &) = delete;
	Folded &operator=(const Folded &) = delete;

	/* fold: esp_text_fold_key or esp_text_fold_header. */
	std::string_view of(esp_status (*fold)(esp_str, esp_buf *), esp_str text)
	{
		esp_buf_reset(&buf);
		if (esp_status st = fold(text, &buf); st == ESP_ENOMEM)
			throw std::bad_alloc();
		else if (st != ESP_OK)
			throw std::length_error("a text is too long to be folded");
		return { buf.data ? buf.data : "", buf.len };
	}

private:
	esp_buf buf;
};

struct Filter {
	const esp_metric_api *metric = nullptr;
	esp_metric refused{};
	esp_str reply{};                                     /* of the settings, which live as long as we do */
	std::vector<std::string> phrases;                    /* folded */

	const std::string *find(std::string_view subject) const
	{
		auto in = [&](const std::string &phrase) { return subject.find(phrase) != subject.npos; };
		auto found = std::find_if(phrases.begin(), phrases.end(), in);

		return found == phrases.end() ? nullptr : &*found;
	}
};

template <class Api>
const Api *core(const esp_module *self, const char *id)
{
	return static_cast<const Api *>(self->host->core(id, 0));
}

/* Runs work().  What it throws becomes `failed`, and its reason goes into *err, or into the log where there is none. */
template <class Result, class Work>
Result guarded(const esp_module *self, esp_err *err, Result failed, Work work) noexcept
{
	auto tell = [&](const char *why) {
		if (err)
			std::snprintf(err->text, sizeof err->text, "%s", why);
		else
			esp_log(
				core<esp_log_api>(self, "esp.log/1"), self, ESP_LOG_ERROR, "gave up", esp_f_str("why", esp_str_z(why)));
	};

	try {
		return work();
	} catch (const std::exception &e) {
		tell(e.what());
	} catch (...) {
		tell("something was thrown that is no std::exception");
	}
	return failed;
}

esp_verdict refuse(const Filter &f, esp_str text, esp_str reason, esp_answer *answer)
{
	answer->smtp_code = 550;
	answer->enhanced[0] = 5;
	answer->enhanced[1] = 7;
	answer->enhanced[2] = 1;
	answer->text = text;
	answer->reason = reason;
	f.metric->add(f.refused, 1);
	return ESP_VERDICT_REJECT;
}

/* Every Subject is looked at: which of several a mail program shows is not ours to know. */
esp_verdict judge(const Filter &f, esp_str headers, esp_answer *answer)
{
	esp_header at = esp_header_of(headers);
	esp_header_field field;
	unsigned subjects = 0;
	Folded folded;

	while (esp_header_next(&at, &field) == ESP_OK) {
		if (!esp_str_is(field.name, "Subject"))
			continue;
		if (++subjects > max_subjects || field.value.len > max_subject)
			return refuse(f, ESP_STR("a message has one subject, of some hundred bytes"),
				ESP_STR("subject out of bounds"), answer);
		if (const std::string *phrase = f.find(folded.of(esp_text_fold_header, field.value)))
			return refuse(f, f.reply, esp_str_of(phrase->data(), phrase->size()), answer);
	}
	return ESP_VERDICT_CONTINUE;
}

/* Values that a schema cannot judge: what is in every subject once it is folded. */
esp_status check(const esp_config_api *c, const esp_cfg *cfg, esp_err *err)
{
	Folded folded;

	for (uint32_t i = 0; i < c->count(cfg, "phrases"); i++) {
		esp_str phrase = c->string_at(cfg, "phrases", i);

		if (phrase.len > 200) {
			c->error(cfg, "phrases", err, "a phrase has at most 200 bytes, not %zu: shorten it", phrase.len);
			return ESP_ECONFIG;
		}
		if (folded.of(esp_text_fold_key, phrase).find_first_not_of(' ') == std::string_view::npos) {
			c->error(cfg, "phrases", err, "\"%.*s\" is in every subject: take it out", ESP_FMT(phrase));
			return ESP_ECONFIG;
		}
	}
	return ESP_OK;
}

std::unique_ptr<Filter> make_filter(const esp_module *self, const esp_cfg *cfg)
{
	auto c = core<esp_config_api>(self, "esp.config/1");
	auto f = std::make_unique<Filter>();
	Folded folded;

	f->metric = core<esp_metric_api>(self, "esp.metric/1");
	f->reply = c->string(cfg, "reply");
	for (uint32_t i = 0; i < c->count(cfg, "phrases"); i++)
		f->phrases.emplace_back(folded.of(esp_text_fold_key, c->string_at(cfg, "phrases", i)));
	return f;
}

/* --- where the core calls -------------------------------------------------------------------------------------- */

esp_verdict on_headers(esp_module *self, const esp_headers_args *args, esp_answer *answer) noexcept
{
	return guarded(self, nullptr, esp_verdict{ ESP_VERDICT_FAIL },
		[&] { return judge(*static_cast<const Filter *>(self->state), args->headers, answer); });
}

esp_status on_check(esp_module *self, const esp_cfg *cfg, esp_err *err) noexcept
{
	return guarded(self, err, esp_status{ ESP_ENOMEM },
		[&] { return check(core<esp_config_api>(self, "esp.config/1"), cfg, err); });
}

esp_status init(esp_module *self, const esp_cfg *cfg)
{
	auto f = make_filter(self, cfg); /* stop() is not called after a failed init(): freed here then */
	esp_hook hook{};
	esp_status st = f->metric->declare(self, ESP_COUNTER, "esp_filter_subject_refused_total", "",
		"Messages refused for their subject", nullptr, 0, &f->refused);

	hook.size = sizeof hook;
	hook.point = ESP_AT_HEADERS;
	hook.priority = ESP_PRIO_EARLY;
	hook.run.headers = on_headers;
	if (st == ESP_OK)
		st = core<esp_hook_api>(self, "esp.hook/1")->add(self, &hook);
	if (st == ESP_OK)
		self->state = f.release();
	return st;
}

esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *err) noexcept
{
	return guarded(self, err, esp_status{ ESP_ENOMEM }, [&] { return init(self, cfg); });
}

void on_stop(esp_module *self) noexcept
{
	delete static_cast<Filter *>(self->state);
}

/* C++17 has no designated initializers: tables are made by functions. */
constexpr esp_module_ops make_ops()
{
	esp_module_ops made{};

	made.size = sizeof made;
	made.check = on_check;
	made.init = on_init;
	made.stop = on_stop;
	return made;
}

constexpr esp_cfg_item item(
	const char *name, uint32_t type, uint32_t flags, int64_t max, const char *preset, const char *help)
{
	esp_cfg_item made{};

	made.name = name;
	made.type = type;
	made.flags = flags;
	made.min = 1;
	made.max = max;
	made.def_str = preset;
	made.help = help;
	return made;
}

constexpr esp_module_ops ops = make_ops();
constexpr esp_cfg_item config[] = {
	item("phrases", ESP_CFG_STRINGS, ESP_CFG_REQUIRED, 100, nullptr,
		"A message whose Subject contains one of these, in any case and encoding, is refused."),
	item("reply", ESP_CFG_STRING, 0, 200, "a message with this subject is not wanted here", "What its sender is told."),
	{}
};

} /* namespace */

ESP_MODULE_SET(m, m.name = "filter_subject"; m.version = "1.0"; m.summary = "Refuses messages by their subject";
	m.license = "MIT"; m.config = config; m.ops = &ops;)
