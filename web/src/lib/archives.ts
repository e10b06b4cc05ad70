/** The files a checkpoint comes as: one, or the small one with the manifest and the volumes it names. */
import type { Checkpoint } from "./types";

export interface Archive { digest: string; file: string; href: string }

export function archivesOf(c: Pick<Checkpoint, "digest" | "volumes">, name: string): Archive[] {
	const file = `${name.replace(/[^A-Za-z0-9._-]/g, "-")}.tar`;
	const one = (digest: string, as: string) => ({ digest, file: as, href: `/api/v1/checkpoints/${digest}/content` });
	return [one(c.digest, file), ...(c.volumes ?? []).map((v, i) => one(v.digest, `${file}.v${String(i + 1).padStart(3, "0")}`))];
}
