-- A connection wants a name: it is free, or held by who brought the same key.
local connection, name, resume, most, life_ms = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8]
local holder = members[name]
if holder then
  if holder[3] == '-' or holder[3] ~= resume then return tell(me, 'in-use', connection) end
else
  local count = 0
  for _ in pairs(members) do count = count + 1 end
  if count >= most then return tell(me, 'full', connection) end
end
members[name] = nil
redis.call('HSET', key, name, me .. ' ' .. connection .. ' ' .. resume)
redis.call('PEXPIRE', key, life_ms)
tell_others('join', room, name, me, connection)
tell(me, 'entered', room, connection, list())
