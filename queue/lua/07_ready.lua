-- What is ready, and who is served first: pools of runs, and of each run the ready jobs of its queues.
-- A call may choose many times (`many`). What was read is remembered while it holds, and what a choice changes is
-- written when somebody else must read it, or when the call ends.

-- Queues with work; all queues of runs that may be served are among them. nil: not read, or no longer so.
local live_memo
-- Of a queue the one run in its pool, while none comes or goes.
local only_memo
-- Of a queue of a run its first jobs, see head_of(); and how many may yet be taken in this call.
local heads_memo, to_come

local function head_flush(key, h)
	local gone = {}
	for id in pairs(h.gone) do
		gone[#gone + 1] = id
	end
	if gone[1] then
		call('ZREM', key, unpack(gone))
	end
end

local function heads_flush()
	for key, h in pairs(heads_memo) do
		head_flush(key, h)
	end
end

-- --- which runs may be served -------------------------------------------------------------------

-- Why an owner may not have another job run; nil when he may. GPU-hours count by the day.
local function owner_full(owner)
	local q = call('HMGET', P .. 'quota:' .. owner, 'running', 'gpu_hours')
	if not q[1] then
		return nil
	end
	local use = call('HMGET', P .. 'own:' .. owner, 'running', 'day', 'seconds')
	if tonumber(q[1]) > 0 and (tonumber(use[1]) or 0) >= tonumber(q[1]) then
		return 'running'
	end
	local today = tonumber(use[2]) == math.floor(now_ms() / DAY_MS)
	if tonumber(q[2]) > 0 and today and (tonumber(use[3]) or 0) >= 3600 * tonumber(q[2]) then
		return 'gpu_hours'
	end
end

local function pool_in(q, run, score)
	call('ZADD', POOL .. q, real(score), run)
	call('SADD', AQ, q)
	live_memo, only_memo[q] = nil, nil
end

local function pool_out(q, run)
	call('ZREM', POOL .. q, run)
	if call('EXISTS', POOL .. q) == 0 then
		call('SREM', AQ, q)
	end
	live_memo, only_memo[q] = nil, nil
end

-- Enters a run into, or takes it out of, the pools of those of its queues that have ready jobs.
local function pools_set(run, score)
	for _, q in ipairs(call('SMEMBERS', P .. 'rs:' .. run)) do
		if score then
			pool_in(q, run, score)
		else
			pool_out(q, run)
		end
	end
end

-- Whether anything limits the run at all.
local function run_limit(r)
	local quota = r.owner ~= '' and call('EXISTS', P .. 'quota:' .. r.owner) == 1
	run_put(r, 'limited', (quota or r.max_running > 0) and '1' or '0')
end

-- Whether the run may be served now.
local function run_served(r)
	if r.hold ~= '0' then
		return false
	end
	if r.limited ~= '1' then
		return true
	end
	return not (r.max_running > 0 and run_count(r, 'n:running') >= r.max_running or owner_full(r.owner))
end

local function pools_sync(r)
	r.score = pool_score(r)
	pools_set(r.id, run_served(r) and r.score)
end

-- After a limited run began or ended a job, or its owner's quota changed.
local function owner_sync(owner)
	for _, run in ipairs(call('SMEMBERS', P .. 'orun:' .. owner)) do
		pools_sync(run_of(run))
	end
end

local function running_count(r, by)
	if r.limited ~= '1' then
		return
	end
	if r.owner ~= '' then
		call('HINCRBY', P .. 'own:' .. r.owner, 'running', by)
		owner_sync(r.owner)
	else
		pools_sync(r)
	end
end

-- What a verb changed of a run's place counts when it is over.
local function places_settle()
	for _, r in pairs(runs_memo) do
		if r.moved then
			r.moved, r.unwritten, r.score = nil, true, pool_score(r)
		end
	end
end

local function pools_flush()
	for id, r in pairs(runs_memo) do
		if r.unwritten then
			r.unwritten = nil
			local score = real(r.score)
			local queues = live_memo and #live_memo < 3 and live_memo or call('SMEMBERS', P .. 'rs:' .. id)
			for i = 1, #queues do
				call('ZADD', POOL .. queues[i], 'XX', score, id)
			end
		end
	end
end

-- --- the ready jobs of a queue of a run ----------------------------------------------------------

-- The first of them: list = {id, score, id, score…} from `at` on, gone = those taken out that Redis still
-- has, all = whether the list is the whole queue. There are two at least, where the queue has two.
local function head_of(key)
	local h = heads_memo[key]
	if not h or not h.all and not h.list[h.at + 2] then
		if h then
			head_flush(key, h)
		end
		local list = call('ZRANGE', key, '0', int(to_come), 'WITHSCORES')
		h = {list = list, at = 1, gone = {}, all = #list < 2 * (to_come + 1)}
		heads_memo[key] = h
	end
	return h
end

local function head_add(h, id, score)
	local list, i = h.list, h.at
	while list[i] and tonumber(list[i + 1]) < score do
		i = i + 2
	end
	if list[i] or h.all then
		table.insert(list, i, score)
		table.insert(list, i, id)
	end
	h.gone[id] = nil
end

-- Whether the queue is empty now.
local function head_drop(h, id)
	local list, i = h.list, h.at
	while list[i] and list[i] ~= id do
		i = i + 2
	end
	if i == h.at then
		h.at = i + 2
	elseif list[i] then
		table.remove(list, i)
		table.remove(list, i)
	end
	h.gone[id] = true
	return h.all and not list[h.at]
end

-- A run that comes back with work after having none starts at its class's present virtual time:
-- idleness earns no credit.
local function run_wakes(r)
	local floor = tonumber(meta_memo['v:' .. r.class] or
		call('HGET', M, 'v:' .. r.class) or '0')
	run_put(r, 'since', lclock())
	run_put(r, 'aged', 0)
	run_put(r, 'vt', math.max(floor, r.vt))
	r.score = pool_score(r)
end

local function ready_in(j)
	local key, r, score = READY .. j.queue .. ':' .. j.run, run_of(j.run), j.seq - j.prio * PRIORITY
	local h = heads_memo[key]
	call('ZADD', key, int(score), j.id)
	if h then
		head_add(h, j.id, score)
	end
	if h and (not h.all or h.list[h.at + 2]) or not h and call('ZCARD', key) > 1 then
		return
	end
	if call('SCARD', P .. 'rs:' .. j.run) == 0 then
		run_wakes(r)
	end
	call('SADD', P .. 'rs:' .. j.run, j.queue)
	if run_served(r) then
		pool_in(j.queue, j.run, r.score)
	end
end

local function ready_out(j)
	local key, empty = READY .. j.queue .. ':' .. j.run, nil
	local h = heads_memo[key]
	if h then
		empty = head_drop(h, j.id)
	else
		call('ZREM', key, j.id)
		empty = call('EXISTS', key) == 0
	end
	if empty then
		call('SREM', P .. 'rs:' .. j.run, j.queue)
		pool_out(j.queue, j.run)
	end
end

-- --- the choice ----------------------------------------------------------------------------------

-- A worker names the same queues every time.
local queue_lists, n_queue_lists = {}, 0
local function queue_places(text)
	local places, n = queue_lists[text], 0
	if not places then
		if n_queue_lists > 1000 then
			queue_lists, n_queue_lists = {}, 0
		end
		places = {}
		for q in string.gmatch(text, '[^,]+') do
			n = n + 1
			places[q] = n
		end
		queue_lists[text] = places
		n_queue_lists = n_queue_lists + 1
	end
	return places
end

-- Those of its queues that have work, in its order.
local function queues_live(text)
	local places, out = queue_places(text), {}
	live_memo = live_memo or call('SMEMBERS', AQ)
	for i = 1, #live_memo do
		if places[live_memo[i]] then
			out[#out + 1] = live_memo[i]
		end
	end
	if out[2] then
		table.sort(out, function(a, b) return places[a] < places[b] end)
	end
	return out
end

-- The run that is first in a queue's pool, and its score.
local function pool_first(q)
	local only = only_memo[q]
	if only then
		return only, run_of(only).score
	end
	pools_flush()
	local top = call('ZRANGE', POOL .. q, '0', '1', 'WITHSCORES')
	only_memo[q] = not top[3] and top[1] or nil
	return top[1], tonumber(top[2])
end

-- The run with the least score over the queues this worker takes, of equal ones the first by name as in
-- every pool, so that it is on top wherever it waits; within it the first job.
local function pick(queues)
	local names, run, score, id, first = queues_live(queues), nil, nil, nil, nil
	for i = 1, #names do
		local top, sc = pool_first(names[i])
		if not run or sc < score or sc == score and top <= run then
			local h = head_of(READY .. names[i] .. ':' .. top)
			local at = tonumber(h.list[h.at + 1])
			if top ~= run or at < first then
				run, score, id, first = top, sc, h.list[h.at], at
			end
		end
	end
	return id
end
