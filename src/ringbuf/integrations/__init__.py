"""The libraries that people have, in one line each; a module for each, which imports it. docs/integrations.md."""
