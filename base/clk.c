#include "base/clk.h"

#include "base/str.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

static int64_t read_ms(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t real_now_ms(void)
{
	return read_ms(CLOCK_REALTIME);
}

static int64_t real_mono_ms(void)
{
	return read_ms(CLOCK_BOOTTIME);
}

static int64_t (*now_fn)(void) = real_now_ms;
static int64_t (*mono_fn)(void) = real_mono_ms;

int64_t clk_now_ms(void)
{
	return now_fn();
}

int64_t clk_mono_ms(void)
{
	return mono_fn();
}

double clk_mono_s(void)
{
	struct timespec t;

	if (mono_fn != real_mono_ms)
		return (double)mono_fn() / 1e3;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void clk_text(int64_t ms, char out[CLK_TEXT_MAX])
{
	struct tm tm;
	int64_t sec = ms / 1000, rest = ms % 1000;

	if (rest < 0) {
		rest += 1000;
		sec--;
	}
	/* Four-digit years only: what RFC 3339 can say and what fits. */
	if (sec < -62135596800 || sec > 253402300799) {
		str_copy(out, CLK_TEXT_MAX, "9999-12-31T23:59:59.999Z");
		return;
	}
	time_t t = (time_t)sec;
	gmtime_r(&t, &tm);
	size_t n = strftime(out, CLK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	str_fmt(out + n, CLK_TEXT_MAX - n, ".%03dZ", (int)rest);
}

void clk_sleep_ms(int64_t ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000};

	if (ms <= 0)
		return;
	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

void clk_replace(int64_t (*now_ms)(void), int64_t (*mono_ms)(void))
{
	now_fn = now_ms ? now_ms : real_now_ms;
	mono_fn = mono_ms ? mono_ms : real_mono_ms;
}
