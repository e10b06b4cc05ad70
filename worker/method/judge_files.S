/* The judge templates that come along: the files of worker/method/templates in order, as one text. */
	.section .rodata
	.global judge_files_text
	.global judge_files_end
judge_files_text:
	.incbin "worker/method/templates/additive-5.judge"
	.incbin "worker/method/templates/choice-1-5.judge"
	.incbin "worker/method/templates/single-1-10.judge"
	.incbin "worker/method/templates/reference-1-10.judge"
	.incbin "worker/method/templates/cot-5.judge"
	.incbin "worker/method/templates/few-shot-5.judge"
	.incbin "worker/method/templates/safety-5.judge"
	.incbin "worker/method/templates/mt-single-v1.judge"
	.incbin "worker/method/templates/mt-single-math-v1.judge"
	.incbin "worker/method/templates/mt-single-v1-multi-turn.judge"
	.incbin "worker/method/templates/mt-single-math-v1-multi-turn.judge"
	.incbin "worker/method/templates/mt-pair-v2.judge"
	.incbin "worker/method/templates/mt-pair-math-v1.judge"
	.incbin "worker/method/templates/mt-pair-v2-multi-turn.judge"
	.incbin "worker/method/templates/mt-pair-math-v1-multi-turn.judge"
	.incbin "worker/method/templates/pair-renamed.judge"
	.incbin "worker/method/templates/pair-few-shot.judge"
judge_files_end:
	.byte 0
	.section .note.GNU-stack,"",%progbits
