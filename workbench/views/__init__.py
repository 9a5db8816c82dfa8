"""What a person sees: the timeline, and cards in HTML and plain text. Displaying never reads a device."""
