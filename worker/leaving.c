#include "worker/leaving.h"

#include "base/clk.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static _Atomic int64_t by_ms; /* clk_mono_ms(); 0: nobody said anything */

static void on_late(int sig)
{
	static const char words[] = "agent: the notice is nearly over; leaving as things are\n";

	(void)sig;
	if (write(2, words, sizeof words - 1) < 0)
		_exit(0);
	_exit(0);
}

void leaving_begin(int64_t notice_ms)
{
	int64_t none = 0;

	if (!atomic_compare_exchange_strong(&by_ms, &none, clk_mono_ms() + notice_ms * 7 / 10))
		return;
	struct sigaction sa = {.sa_handler = on_late};
	sigaction(SIGALRM, &sa, NULL);
	alarm((unsigned)((notice_ms * 8 / 10 + 999) / 1000));
}

int64_t leaving_left(int64_t other)
{
	int64_t by = atomic_load(&by_ms), left = by - clk_mono_ms();

	return by == 0 ? other : left > 0 ? left : 0;
}
