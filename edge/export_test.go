package edge

// Patient is what the path uses for streams of messages.
var Patient = patient
