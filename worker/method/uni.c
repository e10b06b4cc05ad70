#include "worker/method/uni.h"
#include "base/buf.h"
#include "base/str.h"

struct uni_range {
	uint32_t first, last;
};

static bool in_ranges(const struct uni_range *r, uint32_t cp)
{
	for (; r->last; r++)
		if (cp >= r->first && cp <= r->last)
			return true;
	return false;
}

bool uni_is_space(uint32_t cp)
{
	static const struct uni_range spaces[] = {
		{0x09, 0x0d}, {0x1c, 0x20}, {0x85, 0x85}, {0xa0, 0xa0}, {0x1680, 0x1680},
		{0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
		{0x3000, 0x3000}, {0, 0},
	};

	return in_ranges(spaces, cp);
}

bool uni_is_single(uint32_t cp)
{
	/* Thai and Lao, Myanmar, Hangul letters, Khmer, kana, Han, Hangul, Han again. */
	static const struct uni_range single[] = {
		{0x0e01, 0x0eff}, {0x1000, 0x109f}, {0x1100, 0x11ff}, {0x1780, 0x17d3},
		{0x3005, 0x3007}, {0x3040, 0x30ff}, {0x3105, 0x318f}, {0x31a0, 0x31ff},
		{0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xac00, 0xd7af}, {0xf900, 0xfaff},
		{0x20000, 0x3ffff}, {0, 0},
	};

	return cp >= 0x0e01 && in_ranges(single, cp);
}

bool uni_is_word(uint32_t cp)
{
	static const struct uni_range signs[] = {
		{0x80, 0xa9}, {0xab, 0xb1}, {0xb4, 0xb4}, {0xb6, 0xb8}, {0xbb, 0xbb}, {0xbf, 0xbf},
		{0xd7, 0xd7}, {0xf7, 0xf7}, {0x060c, 0x060c}, {0x061b, 0x061f}, {0x06d4, 0x06d4},
		{0x0964, 0x0965}, {0x1680, 0x1680}, {0x17d4, 0x17da}, {0x2000, 0x206f},
		{0x20a0, 0x20ff}, {0x2190, 0x245f}, {0x2500, 0x2bff}, {0x2e00, 0x2e7f},
		{0x3000, 0x3004}, {0x3008, 0x3020}, {0x30fb, 0x30fb}, {0xe000, 0xf8ff},
		{0xfe00, 0xfe6f}, {0xfeff, 0xff0f}, {0xff1a, 0xff20}, {0xff3b, 0xff40},
		{0xff5b, 0xff65}, {0xffe0, 0xffff}, {0x1f000, 0x1faff}, {0xe0000, 0x10ffff}, {0, 0},
	};

	if (cp < 0x80)
		return (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') ||
		       (cp >= 'A' && cp <= 'Z');
	return !in_ranges(signs, cp);
}

uint32_t uni_lower(uint32_t cp)
{
	if (cp < 0x80)
		return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
	if ((cp >= 0xc0 && cp <= 0xde && cp != 0xd7) || (cp >= 0x391 && cp <= 0x3a9) ||
	    (cp >= 0x410 && cp <= 0x42f))
		return cp + 32;
	if (cp >= 0x400 && cp <= 0x40f)
		return cp + 80;
	if (cp >= 0xff21 && cp <= 0xff3a)
		return cp + 32;
	if ((cp >= 0x100 && cp <= 0x12f) || (cp >= 0x132 && cp <= 0x137) ||
	    (cp >= 0x14a && cp <= 0x177) || (cp >= 0x460 && cp <= 0x481) ||
	    (cp >= 0x48a && cp <= 0x4bf) || (cp >= 0x4d0 && cp <= 0x52f) ||
	    (cp >= 0x1e00 && cp <= 0x1e95) || (cp >= 0x1ea0 && cp <= 0x1eff))
		return cp | 1;
	if ((cp >= 0x139 && cp <= 0x148) || (cp >= 0x179 && cp <= 0x17e))
		return cp % 2 ? cp + 1 : cp;
	return cp == 0x178 ? 0xff : cp == 0x212a ? 'k' : cp == 0x130 ? 'i' : cp;
}

int uni_next(const char *s, size_t len, uint32_t *cp)
{
	int used = utf8_decode(s, len, cp);

	if (used > 0)
		return used;
	*cp = 0xfffd;
	return 1;
}

char *uni_squeeze(const char *s, size_t len)
{
	struct buf out = BUF_INIT;
	bool gap = false;
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		int used = uni_next(s + i, len - i, &cp);
		if (uni_is_space(cp)) {
			gap = out.len > 0;
		} else {
			if (gap)
				buf_putc(&out, ' ');
			gap = false;
			buf_append(&out, s + i, (size_t)used);
		}
		i += (size_t)used;
	}
	return buf_detach(&out);
}
