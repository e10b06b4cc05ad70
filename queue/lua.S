/* The function library: the files of queue/lua in order, as one text. */
	.section .rodata
	.global queue_lua_text
	.global queue_lua_end
queue_lua_text:
	.incbin "queue/lua/00_head.lua"
	.incbin "states.lua" /* made from states.def, in the build folder */
	.incbin "queue/lua/05_base.lua"
	.incbin "queue/lua/07_ready.lua"
	.incbin "queue/lua/08_call.lua"
	.incbin "queue/lua/10_job.lua"
	.incbin "queue/lua/20_run.lua"
	.incbin "queue/lua/30_work.lua"
	.incbin "queue/lua/40_retry.lua"
	.incbin "queue/lua/50_tick.lua"
	.incbin "queue/lua/60_worker.lua"
	.incbin "queue/lua/70_restore.lua"
	.incbin "queue/lua/80_audit.lua"
queue_lua_end:
	.byte 0
	.section .note.GNU-stack,"",%progbits
