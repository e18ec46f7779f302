#!/usr/bin/env node
import { connector } from './connector.js'
import { serve } from './hookyard.js'

serve(connector)
