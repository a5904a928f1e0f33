"""The parameters of children: listed values, parameter files, dotted paths, encoding."""
