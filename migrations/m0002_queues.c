/* 0002: jobs know the queue they wait in, where their inputs come from and
 * when their attempt began; runs know the queues they have ready jobs in, who owns them
 * and what limits them.
 *
 * Goes through the runs in order of creation and through the jobs of each, PORTION at a time; where
 * it stands is kept in the meta hash, so that a killed step goes on. Every portion is safe to
 * repeat.
 */
#include "migrations/step.h"

#include "queue/keys.h"

#define PORTION 500

static const char script[] =
	"local P, m = '{pawl}:', KEYS[1]\n"
	"local n = tonumber(ARGV[1])\n"
	"local at = redis.call('HMGET', m, 'm2:run', 'm2:job', 'lclock')\n"
	"local i, from = tonumber(at[1] or '0'), tonumber(at[2] or '0')\n"
	"local run = redis.call('ZRANGE', P .. 'runs', i, i)[1]\n"
	"if not run then\n"
	"  redis.call('HDEL', m, 'm2:run', 'm2:job')\n"
	"  return 1\n"
	"end\n"
	"local r = P .. 'r:' .. run\n"
	"for _, kv in ipairs({{'owner', ''}, {'max_running', 0}, {'limited', 0}, {'aged', 0},\n"
	"    {'since', at[3] or 0}}) do\n"
	"  redis.call('HSETNX', r, kv[1], kv[2])\n"
	"end\n"
	"local jobs = redis.call('ZRANGE', P .. 'rj:' .. run, from, from + n - 1)\n"
	"for _, id in ipairs(jobs) do\n"
	"  local j = P .. 'j:' .. id\n"
	"  local v = redis.call('HMGET', j, 'stage', 'state', 'def', 'queue')\n"
	"  local seen, src = {}, {}\n"
	"  for _, i in ipairs(cjson.decode(v[3]).inputs or {}) do\n"
	"    if i.job and not seen[i.job] then\n"
	"      seen[i.job] = 1\n"
	"      src[#src + 1] = i.job\n"
	"    end\n"
	"  end\n"
	/* The open attempt moves from the end of the list into the job. */
	"  if v[2] == 'running' and not v[4] then\n"
	"    local a = cjson.decode(redis.call('RPOP', P .. 'at:' .. id))\n"
	"    redis.call('HSET', j, 'ast', string.format('%.0f', a.started_ms), 'fpd', a.from_progress)\n"
	"  end\n"
	"  redis.call('HSET', j, 'queue', v[1], 'prio', 0, 'stall', 0, 'requeue', 0, 'src',\n"
	"    table.concat(src, ' '))\n"
	"  if v[2] == 'ready' then\n"
	"    redis.call('SADD', P .. 'rs:' .. run, v[1])\n"
	"    if redis.call('ZSCORE', P .. 'pool:' .. v[1], run) then\n"
	"      redis.call('SADD', P .. 'aq', v[1])\n"
	"    end\n"
	"  end\n"
	"end\n"
	"if #jobs < n then\n"
	"  redis.call('HSET', m, 'm2:run', i + 1, 'm2:job', 0)\n"
	"else\n"
	"  redis.call('HSET', m, 'm2:run', i, 'm2:job', from + n)\n"
	"end\n"
	"return 0\n";

enum rc m0002_queues(const struct migration_step *s, struct err *e)
{
	for (;;) {
		struct redis_cmd c = REDIS_CMD_INIT;
		struct redis_reply *p = NULL;
		bool over;
		enum rc rc = s->alive(s->ctx, e);

		if (rc)
			return rc;
		redis_cmd_add(&c, "EVAL");
		redis_cmd_add(&c, script);
		redis_cmd_words(&c, "1 " KEY_META);
		redis_cmd_i64(&c, PORTION);
		rc = redis_call(s->redis, &c, &p, e);
		over = reply_i64(p) == 1;
		reply_free(p);
		if (rc || over)
			return rc;
	}
}
