/** What a form would send, to copy: as a pawl command, and as curl. Read when it is pressed. */
import { curlOf, type FormRequest } from "../lib/commands";
import { Copy } from "./bits";

export function CopyAs({ form, cli }: { form: () => FormRequest; cli?: boolean }) {
	return (
		<span class="copy-as">
			{cli && <Copy text={() => form().cli ?? ""} label="CLI" what="as a pawl command" />}
			<Copy text={() => curlOf(form(), location.origin)} label="curl" what="as a curl command" />
		</span>
	);
}
