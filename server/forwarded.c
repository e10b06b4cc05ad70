#include "server/forwarded.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_listed(const char *addr, const char *list)
{
	while (*list) {
		size_t n = strcspn(list, ",");
		struct str item = str_trim((struct str){list, n});

		if (str_eq(item, addr))
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

static bool is_address(const char *text)
{
	unsigned char room[16];

	return inet_pton(AF_INET, text, room) == 1 || inet_pton(AF_INET6, text, room) == 1;
}

bool forwarded_client(const char *peer, const char *header, const char *trusted,
		      char out[FORWARDED_ADDR_MAX])
{
	size_t end = header ? strlen(header) : 0;

	if (!trusted[0] || !is_listed(peer, trusted))
		return false;
	while (end > 0) {
		size_t begin = end;
		struct str item;

		while (begin > 0 && header[begin - 1] != ',')
			begin--;
		item = str_trim((struct str){header + begin, end - begin});
		if (item.len >= FORWARDED_ADDR_MAX)
			return false;
		str_fmt(out, FORWARDED_ADDR_MAX, "%.*s", (int)item.len, item.p);
		if (!is_address(out))
			return false; /* Whoever wrote this is not to be believed. */
		if (!is_listed(out, trusted))
			return true;
		end = begin ? begin - 1 : 0;
	}
	return false;
}
