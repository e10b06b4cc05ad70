#include "server/password.h"

#include "base/sha256.h"
#include "base/str.h"

#include <crypt.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

/* In static room: struct crypt_data is 32 KiB. Caller holds the lock. */
static bool hash_with(const char *password, const char *setting, char out[PASSWORD_HASH_MAX])
{
	static struct crypt_data room;
	const char *got;
	bool ok;

	memset(&room, 0, sizeof room);
	got = crypt_r(password, setting, &room);
	ok = got && got[0] != '*' && strlen(got) < PASSWORD_HASH_MAX;
	if (ok)
		str_copy(out, PASSWORD_HASH_MAX, got);
	explicit_bzero(&room, sizeof room);
	return ok;
}

enum rc password_hash(const char *password, char out[PASSWORD_HASH_MAX], struct err *e)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	size_t len = strlen(password);
	bool ok;

	if (len < PASSWORD_MIN || len > PASSWORD_MAX)
		return err_set(e, RC_INVALID, "a password has %d to %d bytes", PASSWORD_MIN,
			       PASSWORD_MAX);
	if (!crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof setting))
		return err_set(e, RC_UNSUPPORTED, "crypt knows no yescrypt here: %m");
	pthread_mutex_lock(&one_at_a_time);
	ok = hash_with(password, setting, out);
	pthread_mutex_unlock(&one_at_a_time);
	return ok ? RC_OK : err_set(e, RC_UNSUPPORTED, "crypt refuses: %m");
}

bool password_check(const char *password, const char *hash)
{
	/* Of no password: its salt and cost are those of the others. */
	static const char nobody[] = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$";
	char got[PASSWORD_HASH_MAX];
	bool ok;

	if (strlen(password) > PASSWORD_MAX)
		return false;
	pthread_mutex_lock(&one_at_a_time);
	ok = hash_with(password, hash ? hash : nobody, got);
	pthread_mutex_unlock(&one_at_a_time);
	return ok && hash && strlen(got) == strlen(hash) && ct_equal(got, hash, strlen(hash));
}
