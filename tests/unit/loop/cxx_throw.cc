/* tests/unit/loop/cxx_throw.cc - C++ code that suspends where it hurts: inside a catch block, in a destructor during
 * unwinding.  Called from test_fiber_cxx.c in many fibers at once. */
#include <exception>

extern "C" int cxx_scenario(int id, void (*suspend)(void));

namespace {
struct suspends_in_destructor {
	void (*suspend)(void);
	~suspends_in_destructor() { suspend(); }
};
}

/* Returns how many times the wrong exception, or none, was seen. */
extern "C" int cxx_scenario(int id, void (*suspend)(void))
{
	int wrong = 0;

	try {
		suspends_in_destructor d = { suspend };

		throw id;
	} catch (int first) {
		wrong += first != id;
		suspend(); /* others throw meanwhile */
		try {
			throw; /* must be ours */
		} catch (int again) {
			wrong += again != id;
		} catch (...) {
			wrong++;
		}
		suspend();
		wrong += std::current_exception() == nullptr;
	}
	wrong += std::uncaught_exceptions() != 0;
	wrong += std::current_exception() != nullptr;
	return wrong;
}
