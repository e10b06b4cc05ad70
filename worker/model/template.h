/* Chat templates: how an instruction becomes the tokens a model was taught to answer, and how an
 * answer ends. Named, versioned and hashed, because a model asked in another form is another model.
 *
 * name        prompt                                                        answer
 * plain       {bos}{prompt}                                                 {response}{eos}
 * alpaca      {bos}Below is an instruction ... ### Response:\n              {response}{eos}
 * llama-2     {bos}[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{prompt} [/INST]   " {response} "{eos}
 * mistral     {bos}[INST] {system}\n\n{prompt} [/INST]                      " {response}"{eos}
 * mistral-v3  {bos}{[INST]} {system}\n\n{prompt}{[/INST]}                   " {response}"{eos}
 * llama-3     {bos}<|start_header_id|>user<|end_header_id|>\n\n ...         {response}<|eot_id|>
 * chatml      {bos}<|im_start|>user\n{prompt}<|im_end|>\n ...               {response}<|im_end|>
 *
 * One turn each, as the official code of the family writes it: Meta's llama and llama-models,
 * mistral-common's tokenizers v1 (mistral: 7B 0.1 and 0.2) and v3 (mistral-v3: [INST] is a token),
 * Alpaca with the line end after "### Response:" that its successors have. No family's default
 * system text is put in.
 *
 * Invariants: a prompt has exactly one BOS, at its start (none when the tokenizer has none). Special
 * tokens come from the template alone: text of prompts, systems and responses is encoded with
 * special tokens off. Prompt tokens are a prefix of prompt + response, because the response is
 * encoded by itself, as a model generates it.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "worker/model/token.h"

#define TEMPLATE_STOP_MAX 8

struct template; /* bound to one tokenizer */

/* Names in order, NULL-terminated; static. */
const char *const *template_names(void);
/* RC_NOTFOUND for an unknown name (the sentence lists the known), RC_UNSUPPORTED when the tokenizer
 * lacks a special token or an end token. `tok` is borrowed and must outlive it. */
enum rc template_open(const char *name, const struct tokenizer *tok, struct template **out,
		      struct err *e);
void template_free(struct template *t);

const char *template_name(const struct template *t);
int template_version(const struct template *t);
/* SHA-256 over name, version and text: what lineage records. RC_NOTFOUND as above. */
enum rc template_sha256(const char *name, char out[SHA256_HEX_SIZE], struct err *e);

/* The template a model was most likely taught in, by its tokenizer's special tokens and the text of
 * its own chat template (NULL: none is known); "plain" when nothing tells. Static. */
const char *template_guess(const struct tokenizer *tok, const char *chat_template);

/* Appends the prompt's tokens, the assistant prefix included. `system` may be NULL; `plain` refuses
 * one. */
enum rc template_prompt(const struct template *t, const char *system, const char *prompt,
			struct tokens *out, struct err *e);
/* Appends the answer's tokens with its end token. */
enum rc template_response(const struct template *t, const char *response, struct tokens *out,
			  struct err *e);
/* Text of an answer's tokens, valid UTF-8: without the end token and without the spaces the
 * template puts around an answer. */
void template_text(const struct template *t, const int32_t *ids, size_t n, struct buf *out);
/* Tokens that end an answer: the template's own first, then the tokenizer's EOS. Owned by it. */
const int32_t *template_stops(const struct template *t, int *n);
