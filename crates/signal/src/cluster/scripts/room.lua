-- What every script begins with: the room, without those whose process is dead.
-- A member is kept as `process connection key`, by name.
local prefix, room, me = ARGV[1], ARGV[2], ARGV[3]
local key = KEYS[1]

local lives = {}
local function alive(process)
  if lives[process] == nil then
    lives[process] = redis.call('EXISTS', prefix .. 'process:' .. process) == 1
  end
  return lives[process]
end

local members, processes = {}, {}
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local process, connection, resume = string.match(all[i + 1], '^(%S+) (%S+) (%S+)$')
  if process and alive(process) then
    members[all[i]] = { process, connection, resume }
    processes[process] = true
  else
    redis.call('HDEL', key, all[i])
  end
end

local function tell(process, ...)
  redis.call('PUBLISH', prefix .. 'inbox:' .. process, table.concat({ ... }, ' '))
end

-- Every other process with somebody in the room.
local function tell_others(...)
  for process in pairs(processes) do
    if process ~= me then tell(process, ...) end
  end
end

local function list()
  local words = {}
  for name, member in pairs(members) do
    words[#words + 1] = name .. ' ' .. member[1] .. ' ' .. member[2]
  end
  return table.concat(words, ' ')
end

