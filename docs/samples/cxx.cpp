// filter_shouting - tags messages whose subject is all capitals.  In C++17.
#include <esp/host.h>
#include <esp/hook.h>
#include <esp/mail.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

struct Filter {
	esp_core core{};
	std::string tag;
};

std::string_view subject_of(std::string_view header)
{
	auto at = header.find("\nSubject:");

	if (at == std::string_view::npos)
		throw std::invalid_argument("no subject");
	header.remove_prefix(at + 9);
	return header.substr(0, header.find('\r'));
}

esp_verdict judge(Filter &f, const esp_message_args *args, esp_answer *answer)
{
	auto subject = subject_of({ args->message->content.ptr, args->message->header_len });
	auto *tag = static_cast<esp_str *>(esp_alloc(args->txn->arena, sizeof(esp_str)));

	if (!tag)
		return ESP_VERDICT_FAIL;
	if (std::none_of(subject.begin(), subject.end(), [](char c) { return c >= 'a' && c <= 'z'; })) {
		*tag = { f.tag.data(), f.tag.size() };       // copied when the hook returns
		answer->tags = tag;
		answer->ntags = 1;
	}
	return ESP_VERDICT_CONTINUE;
}

// Where the core calls, and so where nothing may be thrown out of.
esp_verdict on_message(esp_module *self, const esp_message_args *args, esp_answer *answer)
{
	auto &f = *static_cast<Filter *>(self->state);

	try {
		return judge(f, args, answer);
	} catch (const std::exception &e) {
		esp_log(f.core.log, self, ESP_LOG_INFO, "cannot judge", esp_f_str("why", { e.what(), strlen(e.what()) }));
		return ESP_VERDICT_FAIL;
	}
}

esp_status on_init(esp_module *self, const esp_cfg *cfg, esp_err *)
{
	auto *hooks = static_cast<const esp_hook_api *>(self->host->core("esp.hook/1", 0));
	auto *f = new (std::nothrow) Filter;
	esp_hook hook{};
	esp_status st;

	if (!f)
		return ESP_ENOMEM;
	esp_core_init(&f->core, self);
	f->tag = f->core.cfg->string(cfg, "tag").ptr;
	self->state = f;
	hook.size = sizeof hook;
	hook.point = ESP_AT_MESSAGE;
	hook.priority = ESP_PRIO_NORMAL;
	hook.run.message = on_message;
	st = hooks->add(self, &hook);
	if (st != ESP_OK)
		delete f;                                    // stop() is not called after a failed init()
	return st;
}

void on_stop(esp_module *self)
{
	delete static_cast<Filter *>(self->state);
}

constexpr esp_module_ops make_ops()
{
	esp_module_ops ops{};

	ops.size = sizeof ops;
	ops.init = on_init;
	ops.stop = on_stop;
	return ops;
}

constexpr esp_cfg_item string_item(const char *name, const char *preset, const char *help)
{
	esp_cfg_item item{};

	item.name = name;
	item.type = ESP_CFG_STRING;
	item.min = 1;
	item.max = 40;
	item.def_str = preset;
	item.help = help;
	return item;
}

constexpr esp_module_ops ops = make_ops();
constexpr esp_cfg_item config[] = { string_item("tag", "shouting", "The tag it gets."), {} };

} // namespace

ESP_MODULE_SET(m, m.name = "filter_shouting"; m.version = "1.0"; m.summary = "Tags shouted subjects";
	m.license = "MIT"; m.config = config; m.ops = &ops;)
