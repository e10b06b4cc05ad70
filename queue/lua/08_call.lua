-- What every verb begins and ends with.

-- A Redis that was restarted, restored or made master may know less than the store. m.trust is what the
-- server wrote that last compared the two; this process remembers what it was told, and forgets it when
-- it ends. Until they agree only the comparing server may write (its schema ends in "!"). A keyspace that
-- no server guards has no m.trust.
local trusted, behind

-- What an If-Match names is compared in the step that makes the change: the schema is followed by
-- "?r:<run>=<revision>", "?j:<job>=<tag>" or "?q:<owner>=<limits>" (".." while he has none). nil when it still holds, and for every other call.
local function changed(word)
	local kind, id, want = string.match(word, '%?(%l):(%S+)=(%S*)$')
	local have
	if kind == 'r' then
		have = call('HGET', RUN .. id, 'rev') or ''
	elseif kind == 'j' then
		local v = call('HMGET', JOB .. id, 'state', 'starts', 'prio', 'gen', 'cancel')
		for i = 1, 5 do
			v[i] = v[i] or ''
		end
		have = table.concat(v, '.')
	elseif kind == 'q' then
		local v = call('HMGET', P .. 'quota:' .. id, 'runs', 'running', 'gpu_hours')
		have = (v[1] or '') .. '.' .. (v[2] or '') .. '.' .. (v[3] or '')
	end
	if not kind or have ~= want then
		return fail('CHANGED', (id or '') .. ' is no longer what If-Match names; read it again')
	end
end

-- Verbs that `many` knows: they read and write runs and workers as above and nowhere else.
local JOINED, bodies = {claim = true, beat = true, complete = true, fail = true}, {}

local function register(name, body, flags, always)
	local reads, tells_of = flags ~= nil, name == 'claim' or name == 'complete' or name == 'restore_take' or
		name == 'many'
	bodies[name] = JOINED[name] and body
	redis.register_function{
		function_name = 'pawl2_' .. name,
		callback = function(keys, args)
			if not call then
				call, tonumber, tostring, type, unpack, ipairs, pairs, rawget, setmetatable,
					pcall, string, table, math, cjson = globals()
			end
			local v = call('HMGET', M, 'schema', 'lclock', 'trust', 'fence')
			local word = args[1]
			local plain = word == SCHEMA
			local restoring = not plain and word == SCHEMA .. '!'
			local matches = not plain and string.sub(word, 1, #SCHEMA + 1) == SCHEMA .. '?'
			if v[1] ~= SCHEMA or not (plain or restoring or matches) then
				return fail('SCHEMA', 'keyspace has schema ' .. (v[1] or 'none') ..
					', the library ' .. SCHEMA .. ', the caller ' .. args[1])
			end
			behind = v[3] and v[3] ~= trusted
			if behind and not (restoring or reads or always) then
				return fail('BEHIND', 'this Redis is being compared with the store')
			end
			local stale = matches and changed(word)
			if stale then
				return stale
			end
			now_memo, lc_memo, fence_memo = nil, tonumber(v[2] or '0'), tonumber(v[4] or '0')
			runs_memo, meta_memo, workers_memo, lease_memo, held_memo, tells = {}, {}, {}, {}, {}, tells_of
			live_memo, only_memo, heads_memo, to_come = nil, {}, {}, 1
			local answer = body(args)
			places_settle()
			pools_flush()
			heads_flush()
			leases_flush()
			held_flush()
			runs_flush()
			workers_flush()
			meta_flush()
			return answer
		end,
		flags = flags or {},
	}
end
