"""The commands of `kakehashi`, one file each; `kakehashi.cli` puts them together."""
