#!lua name=pawl_v2
-- The queue's only writer. One function is one verb is one atomic step.
-- KEYS[1] is {pawl}:m; ARGV[1] is the schema the caller was built for: a mismatch changes nothing.
-- Errors come back as "CODE sentence" with CODE one of STALE CONFLICT CHANGED NOTFOUND INVALID FULL SCHEMA
-- BEHIND.
-- Every check of a function comes before its first write, since Redis rolls nothing back.
-- A call into Redis costs about a microsecond, which is what a verb is made of: a job, a run and a worker
-- are each read once in a call and what changed is written once. Numbers go out as text: Redis would
-- print them as floats, slowly.
--
-- Keys, all in one slot ({pawl}:…):
--   m            hash: schema, fence, seq, lclock, lasttick, frozen, run_id, day, aged, v:<class>, trust
--   runs         zset of run ids by creation · openruns set of active, paused, draining ones
--   r:<run>      run hash · rj:<run> zset of its jobs by seq · rs:<run> its queues with ready jobs
--   j:<job>      job hash; a field that is absent is 0 or "" (queue: its stage). par: its parents, ch: its
--   children, both without the run's id; beyond CHILDREN bytes of ch the rest is in the list cl:<job>, and ch
--   begins with "+". la: the last ended attempt (again_ms: when it was
--   ready once more), those before in the list at:<job> · mx:<job> metrics by step
--   (a job of an older server has every field, its parents in def, its children in the set ch:<job>)
--   A queue is "<stage>", or "<stage>@<pool>" when only some workers may take its jobs.
--   rq:<queue>:<run> zset of ready jobs by priority and seq · pool:<queue> zset of runs that may be
--   served, by class and virtual time · aq set of queues with such a run
--   lease, grace, delayed, stall  zsets of jobs by lease-clock time
--   w:<worker>   hash · wa zset of all by start · wz zset of the living by last beat · wj:<worker> jobs held
--   quota:<owner> hash of limits · own:<owner> hash of use · orun:<owner> set of open runs · quotas set
--   idem hash, idemz zset · ev event stream · audit stream of what operators did · kv:<ns>:<key>, kvn:<ns>
--   turn:<name> who has it: one server at a time
-- The lease clock (m.lclock, milliseconds) moves in `tick` alone.

-- The files of this folder are one chunk, which has room for 200 locals: what nobody else needs stands in
-- "do … end".

-- Locals are found faster than globals, and none of these is there while the library is loaded: the first
-- call of a verb fetches them.
local function globals()
	return redis.call, tonumber, tostring, type, unpack, ipairs, pairs, rawget, setmetatable, pcall, string, table, math, cjson
end
local call, tonumber, tostring, type, unpack, ipairs, pairs, rawget, setmetatable, pcall, string, table, math, cjson

local P = '{pawl}:'
local M = P .. 'm'
local JOB, WORKER, RUN, EV = P .. 'j:', P .. 'w:', P .. 'r:', P .. 'ev'
local AQ, POOL, READY, LEASE, HELD = P .. 'aq', P .. 'pool:', P .. 'rq:', P .. 'lease', P .. 'wj:'
local SCHEMA = '2'
local GRACE_MS = 60000
local POISON = 5
local ADVANCE_MS = 2000
local BACKOFF_MS = 600000
local AGE_MS = 21600000
local AGE_LOOK_MS = 60000
local DAY_MS = 86400000
local EVENTS = 100000
local AUDIT = 1000000
local JOBS_MAX = 10000
local IDEM_MS = 2592000000
local BATCH = 500
local PRIORITY = 1e12
local MARKS = 200
local FENCE_GAP = 1000000
local CHILDREN = 150
