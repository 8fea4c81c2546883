"""A field type of forgecore: colours."""
