"""What there is to choose from, a row for each name: whoever needs to know something of an activation, a loss or an
optimizer asks its row."""
