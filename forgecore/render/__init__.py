"""From what plugins give to the text of files: plan, templates, slots."""
