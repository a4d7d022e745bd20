-- A connection gives its name back. A late one changes nothing.
local connection, name = ARGV[4], ARGV[5]
local holder = members[name]
if holder and holder[1] == me and holder[2] == connection then
  redis.call('HDEL', key, name)
  tell_others('leave', room, name, me, connection)
end
