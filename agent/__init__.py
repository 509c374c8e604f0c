"""The edge agent: pushes artifacts from build servers and pulls them at consumers, in one command."""
