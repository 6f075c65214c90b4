package huggingface

// readTemplate takes from a TemplateProcessing what stands before and behind a
// text. ByteLevel, the other post-processor, adds nothing.
func (t *tokenizerFile) readTemplate(raw rawTokenizer) error {
	list, err := parseComponent("post_processor", raw.parts["post_processor"])
	if err != nil {
		return err
	}
	for _, c := range list {
		switch c.Type {
		case "ByteLevel":
			t.decided = true
		case "TemplateProcessing":
			t.decided = true
			if err := t.template(c); err != nil {
				return err
			}
		default:
			return unsupported("tokenizer.json: post_processor %q", c.Type)
		}
	}
	return nil
}

func (t *tokenizerFile) template(c component) error {
	before, text := true, false
	for _, piece := range c.Single {
		name, special := piece["SpecialToken"]
		switch {
		case !special && text:
			return unsupported("tokenizer.json: a template with the text twice")
		case !special:
			before, text = false, true
			continue
		}
		ids := c.Specials[name.ID].IDs
		if len(ids) != 1 || ids[0] < 0 || int(ids[0]) >= len(t.v.Tokens) {
			return malformed("tokenizer.json: template token %q has the ids %v", name.ID, ids)
		}
		into, flag := &t.v.EOS, &t.v.AddEOS
		if before {
			into, flag = &t.v.BOS, &t.v.AddBOS
		}
		if *flag {
			return unsupported("tokenizer.json: a template with several tokens on one side of the text")
		}
		*into, *flag = ids[0], true
	}
	t.bos, t.eos = t.v.BOS, t.v.EOS
	return nil
}
