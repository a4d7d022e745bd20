-- Everybody whom a process has in the room: name, connection, key, and so on. Whoever is known stays as it is known.
local life_ms = ARGV[4]
for i = 5, #ARGV, 3 do
  local name, connection, resume = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if not members[name] then
    redis.call('HSET', key, name, me .. ' ' .. connection .. ' ' .. resume)
    tell_others('join', room, name, me, connection)
    members[name] = { me, connection, resume }
  end
end
redis.call('PEXPIRE', key, life_ms)
tell(me, 'present', room, list())
