/** What the build makes JSX calls of; named so that no variable of a page hides it. */
export { h as $h, Fragment as $Fragment } from "preact";
