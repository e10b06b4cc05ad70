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

/* Digits of text[from, to) as a number, -1 when one is none. */
static int64_t digits(const char *text, int from, int to)
{
	int64_t n = 0;

	for (int i = from; i < to; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		n = n * 10 + text[i] - '0';
	}
	return n;
}

/* Days from 1970-01-01 to the first of March of `year` (the proleptic Gregorian calendar). */
static int64_t days_to_march(int64_t year)
{
	return 365 * year + year / 4 - year / 100 + year / 400 - 719468;
}

bool clk_parse(const char *text, size_t len, int64_t *ms)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
	static const int before[] = {306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275};
	int64_t year, month, day, h, m, s;

	if (len < sizeof(form) - 1)
		return false;
	for (int i = 0; form[i]; i++)
		if (form[i] != 'd' ? text[i] != form[i] : text[i] < '0' || text[i] > '9')
			return false;
	year = digits(text, 0, 4);
	month = digits(text, 5, 7);
	day = digits(text, 8, 10);
	h = digits(text, 11, 13);
	m = digits(text, 14, 16);
	s = digits(text, 17, 19);
	if (month < 1 || month > 12 || day < 1 || day > 31 || h > 23 || m > 59 || s > 60)
		return false;
	day += days_to_march(month < 3 ? year - 1 : year) + before[month - 1] - 1;
	*ms = ((day * 24 + h) * 60 + m) * 60000 + s * 1000 + digits(text, 20, 23);
	return true;
}

void clk_sleep_ms(int64_t ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000};

	if (ms <= 0)
		return;
	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

void clk_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

struct timespec clk_after_us(int64_t us)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	us = us > 0 ? us : 0;
	t.tv_sec += us / 1000000;
	t.tv_nsec += us % 1000000 * 1000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

struct timespec clk_after(int64_t ms)
{
	return clk_after_us(ms * 1000);
}

void clk_replace(int64_t (*now_ms)(void), int64_t (*mono_ms)(void))
{
	now_fn = now_ms ? now_ms : real_now_ms;
	mono_fn = mono_ms ? mono_ms : real_mono_ms;
}
