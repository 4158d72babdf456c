"""What is generated from the settings' models: the schema, the reference and the manual."""
