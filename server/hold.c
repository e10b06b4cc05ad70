#include "server/hold.h"

#include "base/clk.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/server.h"

#define WAIT_MS 5000
#define LOOK_MS 20

void holder_make(char out[17])
{
	uint8_t raw[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];

	random_bytes(raw, sizeof raw);
	sha256_hex(raw, hex);
	str_fmt(out, 17, "%.16s", hex);
}

enum rc hold_take(struct server *s, const char *kind, const char *id, struct hold *h, struct err *e)
{
	int64_t until = clk_mono_ms() + WAIT_MS;
	bool got = false;
	enum rc rc;

	h->s = s;
	str_fmt(h->name, sizeof h->name, "%s-%s", kind, id);
	holder_make(h->holder);
	while (!(rc = queue_hold(s->queue, h->name, h->holder, HOLD_MS, &got, e)) && !got) {
		if (clk_mono_ms() > until)
			return err_set(e, RC_TIMEOUT, "%s %s is being changed by somebody else",
				       kind, id);
		clk_sleep_ms(LOOK_MS);
	}
	return rc;
}

void hold_drop(struct hold *h)
{
	bool got;

	queue_hold(h->s->queue, h->name, h->holder, 0, &got, NULL);
}
