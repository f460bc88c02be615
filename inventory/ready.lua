#!lua
-- ready.lua: would this Redis let a script write now?
--
-- Needs no key. Returns READY. Reads and writes nothing: before a script that might write begins, Redis itself refuses
-- it with what it would refuse reserve.lua with (OOM: memory is full; MISCONF: it cannot write its log; READONLY: a
-- replica; NOREPLICAS: too few of them).

return 'READY'
