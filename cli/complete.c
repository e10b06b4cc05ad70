/* completion, man: what shells and man(1) want to know, from the table that --help is made of. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/str.h"
#include "base/version.h"

#include <stdlib.h>
#include <string.h>

static const char common[] =
	"--json --quiet --no-color --yes --no-input --data --server --token-file --help";

/* The flags in "RUN [--stage S] [-f|--file FILE]", each with a space before it. */
static void put_flags(struct buf *b, const char *args)
{
	for (const char *p = args; (p = strchr(p, '-'));) {
		size_t n = strspn(p, "-abcdefghijklmnopqrstuvwxyz");
		if (n > 1 && (p == args || strchr(" [|", p[-1])))
			buf_printf(b, " %.*s", (int)n, p);
		p += n ? n : 1;
	}
}

static bool first_of_noun(size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (!strcmp(commands[k].noun, commands[i].noun))
			return false;
	return true;
}

static void put_verbs(struct buf *b, const char *noun)
{
	for (size_t i = 0; i < n_commands; i++)
		if (!strcmp(commands[i].noun, noun) && *commands[i].verb)
			buf_printf(b, "%s%s", b->len ? " " : "", commands[i].verb);
}

/* "run submit|run list" as patterns of a case, with their flags. */
static void bash_flags(const struct command *d)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "");
	put_flags(&b, d->args);
	printf("\t\"%s%s%s\"*) words=\"%s$common\" ;;\n", d->noun, *d->verb ? " " : "", d->verb,
	       b.len ? b.data + 1 : "");
	buf_release(&b);
}

static void bash(void)
{
	puts("# bash completion for pawl, made by `pawl completion bash`\n"
	     "_pawl() {\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} words=\"\" first=${COMP_WORDS[1]:-}");
	printf("\tlocal common=\" %s\"\n\tCOMPREPLY=()\n\tif [ \"$COMP_CWORD\" = 1 ]; "
	       "then\n\t\twords=\"",
	       common);
	for (size_t i = 0; i < n_commands; i++)
		if (first_of_noun(i))
			printf("%s%s", i ? " " : "", commands[i].noun);
	puts("\"\n\telif [ \"$COMP_CWORD\" = 2 ] && [ \"${cur#-}\" = \"$cur\" ]; then\n\t\tcase "
	     "$first in");
	for (size_t i = 0; i < n_commands; i++) {
		struct buf b = BUF_INIT;
		put_verbs(&b, commands[i].noun);
		if (first_of_noun(i) && b.len)
			printf("\t\t%s) words=\"%s\" ;;\n", commands[i].noun, b.data);
		buf_release(&b);
	}
	puts("\t\tesac\n\telif [ \"${cur#-}\" != \"$cur\" ]; then\n\t\tcase \"$first "
	     "${COMP_WORDS[2]:-}\" in");
	for (size_t i = 0; i < n_commands; i++)
		bash_flags(&commands[i]);
	puts("\t\tesac\n\tfi\n"
	     "\tif [ -n \"$words\" ]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- "
	     "\"$cur\")\n"
	     "\telse\n\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n\tfi\n}\n"
	     "complete -o filenames -F _pawl pawl");
}

/* In single quotes, as both zsh and fish take them; `colons`: zsh wants them escaped. */
static void put_quoted(const char *text, bool colons)
{
	putchar('\'');
	for (const char *p = text; *p; p++) {
		if (*p == '\'')
			fputs("'\\''", stdout);
		else if (*p == ':' && colons)
			fputs("\\:", stdout);
		else
			putchar(*p);
	}
	putchar('\'');
}

static void zsh_item(const char *word, const char *help)
{
	printf(" '%s':", word); /* The first colon divides word and help. */
	put_quoted(help, true);
}

static void zsh(void)
{
	puts("#compdef pawl\n# zsh completion for pawl, made by `pawl completion zsh`\n_pawl() "
	     "{\n\tlocal -a list flags");
	printf("\tflags=(%s)\n\tif (( CURRENT == 2 )); then\n\t\tlist=(", common);
	for (size_t i = 0; i < n_commands; i++)
		if (first_of_noun(i))
			zsh_item(commands[i].noun, *commands[i].verb ? "" : commands[i].help);
	puts(")\n\t\t_describe command list\n\telif (( CURRENT == 3 )) && [[ $PREFIX != -* ]]; "
	     "then\n\t\tcase $words[2] in");
	for (size_t i = 0; i < n_commands; i++) {
		if (!first_of_noun(i) || !*commands[i].verb)
			continue;
		printf("\t\t%s) list=(", commands[i].noun);
		for (size_t k = i; k < n_commands; k++)
			if (!strcmp(commands[k].noun, commands[i].noun))
				zsh_item(commands[k].verb, commands[k].help);
		puts(") ; _describe command list ;;");
	}
	puts("\t\t*) _files ;;\n\t\tesac\n\telif [[ $PREFIX == -* ]]; then\n\t\tcase \"$words[2] "
	     "$words[3]\" in");
	for (size_t i = 0; i < n_commands; i++) {
		struct buf b = BUF_INIT;
		put_flags(&b, commands[i].args);
		if (b.len)
			printf("\t\t\"%s%s%s\"*) flags+=(%s) ;;\n", commands[i].noun,
			       *commands[i].verb ? " " : "", commands[i].verb, b.data + 1);
		buf_release(&b);
	}
	puts("\t\tesac\n\t\tcompadd -- $flags\n\telse\n\t\t_files\n\tfi\n}\n_pawl \"$@\"");
}

static void fish_flags(const struct command *d, const char *args)
{
	struct buf b = BUF_INIT;
	size_t n;

	put_flags(&b, args);
	for (const char *w = b.len ? b.data : ""; *w; w += n) {
		n = 1 + strcspn(w + 1, " ");
		bool longer = str_starts(w + 1, "--");
		fputs("complete -c pawl", stdout);
		if (d)
			printf(" -n '__fish_seen_subcommand_from %s%s%s'", d->noun,
			       *d->verb ? "; and __fish_seen_subcommand_from " : "", d->verb);
		printf(" -%s %.*s\n", longer ? "l" : "s", (int)n - (longer ? 3 : 2),
		       w + (longer ? 3 : 2));
	}
	buf_release(&b);
}

static void fish(void)
{
	puts("# fish completion for pawl, made by `pawl completion fish`");
	for (size_t i = 0; i < n_commands; i++) {
		const struct command *d = &commands[i];
		struct buf verbs = BUF_INIT;
		if (first_of_noun(i)) {
			printf("complete -c pawl -f -n __fish_use_subcommand -a %s -d ", d->noun);
			put_quoted(*d->verb ? "" : d->help, false);
			putchar('\n');
		}
		put_verbs(&verbs, d->noun);
		if (*d->verb) {
			printf("complete -c pawl -f -n '__fish_seen_subcommand_from %s; and not "
			       "__fish_seen_subcommand_from %s' -a %s -d ",
			       d->noun, verbs.data, d->verb);
			put_quoted(d->help, false);
			putchar('\n');
		}
		fish_flags(d, d->args);
		buf_release(&verbs);
	}
	fish_flags(NULL, common);
}

int cmd_completion(struct cli *c, int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*print)(void);
	} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	(void)c;
	for (size_t i = 0; !code && i < sizeof(shells) / sizeof(shells[0]); i++)
		if (!strcmp(argv[0], shells[i].name)) {
			shells[i].print();
			return EXIT_DONE;
		}
	if (!code)
		fprintf(stderr, "pawl: completion for bash, zsh or fish, not for \"%s\"\n",
			argv[0]);
	return EXIT_USAGE;
}

/* --- man ---------------------------------------------------------------------------------------
 */

/* A line of running text: no letter of it is a request of roff. */
static void roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			putchar(*text);
	}
	putchar('\n');
}

int cmd_man(struct cli *c, int argc, char **argv)
{
	static const char *const codes[][2] = {
		{"0", "done"},
		{"1", "failed"},
		{"2", "usage"},
		{"3", "not found"},
		{"4", "not allowed"},
		{"5", "conflict: it is not in the state for that, or somebody else changed it"},
		{"6", "the server cannot be reached"},
		{"7", "the run waited for has failed"},
		{"78", "settings are wrong"},
		{"130", "interrupted"}};
	char line[512];
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	(void)c;
	if (code)
		return code;
	printf(".TH PAWL 1 \"\" \"pawl %s\"\n.SH NAME\npawl \\- self\\-rewarding training that "
	       "survives "
	       "anything\n.SH SYNOPSIS\n.B pawl\n.I COMMAND\n[\\fIARGUMENTS\\fR] [\\-\\-json] "
	       "[\\-\\-quiet]\n"
	       ".SH COMMANDS\n",
	       version_text());
	for (size_t i = 0; i < n_commands; i++) {
		str_fmt(line, sizeof(line), "pawl %s%s%s %.400s", commands[i].noun,
			*commands[i].verb ? " " : "", commands[i].verb, commands[i].args);
		puts(".TP");
		roff(line);
		roff(commands[i].help);
	}
	puts(".SH FLAGS OF EVERY COMMAND");
	for (size_t i = 0; i < n_common_flags; i++) {
		puts(".TP");
		roff(common_flags[i][0]);
		roff(common_flags[i][1]);
	}
	puts(".SH EXIT STATUS");
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		printf(".TP\n%s\n%s\n", codes[i][0], codes[i][1]);
	puts(".SH SETTINGS\nEvery setting is a flag, a variable PAWL_\\fINAME\\fR or a line of "
	     "/etc/pawl/pawl.conf;\n.B pawl config show \\-\\-origin\ntells each and where it "
	     "comes from.");
	return EXIT_DONE;
}
