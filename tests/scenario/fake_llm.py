"""tests/scenario/fake_llm.py - an LLM service with three interfaces, which answers well or as `how` says.

    with FakeLlm() as f:                 # f.endpoint("ollama") is its URL
        f.how = "late"                   # from the next request on
        f.prompts[-1], f.keys[-1]        # what it was shown, and the key it was given

A message whose subject has the word "sale" is promotions, "friend" social, and so on; otherwise it is primary.
What a request lacks that the real service would want is an AssertionError in f.faults.
"""
import json
import re
import time

from hostile_http import Hostile, answer

WORDS = {"sale": "promotions", "friend": "social", "invoice": "updates", "list": "forums"}
TOKENS = 30


class FakeLlm(Hostile):
    def __init__(self, **options):
        self.how, self.late, self.confidence = "good", 1.0, 0.9
        self.prompts, self.keys, self.bodies, self.faults = [], [], [], []
        super().__init__(**options)

    def endpoint(self, api):
        return self.url({"openai": "/openai", "anthropic": "/anthropic", "ollama": "/ollama"}[api])

    def do_openai(self, c, rq, arg):
        return self.converse(c, rq, "openai")

    def do_anthropic(self, c, rq, arg):
        return self.converse(c, rq, "anthropic")

    def do_ollama(self, c, rq, arg):
        return self.converse(c, rq, "ollama")

    # --- what is asked

    def read(self, rq, api):
        body = json.loads(rq.body)
        roles = [m["role"] for m in body["messages"]]
        assert rq.method == "POST" and rq.field("Content-Type") == "application/json"
        assert body["model"] == "test-model" and body["stream"] is False
        if api == "anthropic":
            assert roles == ["user"] and body["system"] and body["max_tokens"] > 0 and "temperature" not in body
            assert rq.field("anthropic-version") == "2023-06-01" and not rq.field("Authorization")
            schema, key = body["output_config"]["format"]["schema"], rq.field("x-api-key")
        else:
            assert roles == ["system", "user"]
            key = (rq.field("Authorization") or "").removeprefix("Bearer ")
            schema = body["format"] if api == "ollama" else body["response_format"]["json_schema"]["schema"]
        assert "promotions" in schema["properties"]["category"]["enum"]
        return body, body["messages"][-1]["content"], key

    def converse(self, c, rq, api):
        try:
            body, prompt, key = self.read(rq, api)
        except Exception as e:              # noqa: BLE001 - the scenario looks at them
            self.faults.append(repr(e))
            c.sendall(answer(b"{}", "400 Bad Request"))
            return True
        self.bodies.append(body)
        self.prompts.append(prompt)
        self.keys.append(key)
        return getattr(self, "how_" + self.how.replace("-", "_"))(c, api, prompt)

    # --- what it says

    def category(self, prompt):
        subject = re.search(r"^Subject: (.*)$", prompt, re.M)[1]
        return next((v for k, v in WORDS.items() if k in subject), "primary")

    def reply(self, api, words):
        if api == "openai":
            return {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message":
                    {"role": "assistant", "content": words}}], "usage": {"prompt_tokens": 20, "completion_tokens": 10,
                    "total_tokens": TOKENS}}
        if api == "anthropic":
            return {"id": "x", "type": "message", "role": "assistant", "content": [{"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": words}], "stop_reason": "end_turn",
                    "usage": {"input_tokens": 20, "output_tokens": 10}}
        return {"model": "test-model", "message": {"role": "assistant", "content": words}, "done": True,
                "prompt_eval_count": 20, "eval_count": 10}

    def say(self, c, api, words):
        c.sendall(answer(json.dumps(self.reply(api, words)).encode(), fields=["Content-Type: application/json"]))
        return True

    def how_good(self, c, api, prompt):
        return self.say(c, api, json.dumps({"category": self.category(prompt), "confidence": self.confidence}))

    def how_late(self, c, api, prompt):
        time.sleep(self.late)
        return self.how_good(c, api, prompt)

    def how_unknown(self, c, api, prompt):
        return self.say(c, api, '{"category": "lottery", "confidence": 1}')

    def how_prose(self, c, api, prompt):
        return self.say(c, api, 'Sure! {"category": "promotions", "confidence": 1}')

    def how_twice(self, c, api, prompt):
        return self.say(c, api, '{"category": "promotions", "category": "social", "confidence": 1}')

    def how_too_sure(self, c, api, prompt):
        return self.say(c, api, '{"category": "promotions", "confidence": 7}')

    def how_other_api(self, c, api, prompt):
        return self.say(c, "ollama" if api == "openai" else "openai", '{"category": "promotions", "confidence": 1}')

    def how_no_json(self, c, api, prompt):
        c.sendall(answer(b"<html>welcome</html>"))
        return True

    def how_huge(self, c, api, prompt):
        return self.do_endless_body(c, None, None)

    def how_nested(self, c, api, prompt):
        c.sendall(answer(b"[" * 100000 + b"]" * 100000))
        return True

    def how_half(self, c, api, prompt):
        return self.do_half(c, None, None)

    def how_never(self, c, api, prompt):
        return self.do_never(c, None, None)

    def how_redirect(self, c, api, prompt):
        c.sendall(answer(b"", "307 Moved", [f"Location: {self.endpoint(api)}"]))
        return True

    def how_busy(self, c, api, prompt):
        c.sendall(answer(b'{"error": "slow down"}', "429 Too Many Requests", ["Retry-After: 2"]))
        return True

    def how_failing(self, c, api, prompt):
        c.sendall(answer(b'{"error": "oops"}', "500 Internal Server Error"))
        return True

    def how_refusing(self, c, api, prompt):
        c.sendall(answer(b'{"error": "too long"}', "400 Bad Request"))
        return True

    def how_no_key(self, c, api, prompt):
        c.sendall(answer(b'{"error": "no such key: %s"}' % self.keys[-1].encode(), "401 Unauthorized"))
        return True
